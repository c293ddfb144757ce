"""Model construction, module edits, padding removal and optimizers."""
