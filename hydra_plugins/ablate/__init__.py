"""Thin adapters in the namespace that Hydra scans for plugins; what they do stands in `ablate`."""
