"""Benchmarks of the training loop, evaluation, recording and launcher: `python -m benchmarks.run` runs all of them."""
