"""Executes a plan: scheduler, worker, locks, reuse, retry and status."""
