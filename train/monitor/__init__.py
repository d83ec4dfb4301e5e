"""Measurements while a round trains: stale triplets, drift of the embedding, collapse.

In reading order:

    config  settings: how often, on how many items, when a round has collapsed
    health  the measures, and the test for a collapse
    probe   measures a round on a fixed sample of items and triplets
    validation  scores a round on a fixed sample of the split val
"""
