"""Typed configuration, and the composer that reads it with Hydra."""
