"""What the loop, its looks and its record cost, measured: `python -m benchmarks.run` measures all of it."""
