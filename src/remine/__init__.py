"""Offline hard-negative mining that keeps up with the model."""
