"""Metrics: one number read from one run."""
