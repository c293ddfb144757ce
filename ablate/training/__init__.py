"""One run: torch and the record, nothing of studies."""
