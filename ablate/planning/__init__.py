"""From a command to a frozen plan, and what that plan costs."""
