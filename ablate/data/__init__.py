"""Datasets, nested splits, tokenization and hub revisions."""
