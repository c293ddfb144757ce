"""Thin adapters in the namespace that Hydra scans for plugins; their work is done in `ablate`."""
