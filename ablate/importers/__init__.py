"""Runs that were made elsewhere: what their loggers left, as run folders; what they did not say stays absent."""
