"""Encoders, losses, the triplet loader, the training loop, checkpoints."""
