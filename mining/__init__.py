"""Embeddings and labels to hard and semi-hard triplets, over the whole dataset."""
