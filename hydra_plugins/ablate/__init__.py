"""Thin adapters in the namespace that Hydra scans for plugins; their code is in `ablate`."""
