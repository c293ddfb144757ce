"""Import runs of other tools: their logs become run directories, and what a log does not say stays absent."""
