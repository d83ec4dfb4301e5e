"""Strategies: which positives and which negatives an anchor is mined with.

In reading order:

    positives          the (anchor, positive) pairs
    negatives          strategies to windows of distance, and matches in them to negatives
    random_negatives   negatives by chance: uniform, within a window, weighted by distance
    random_kernels     compiled loops of the random choices
    hub_cap            a limit on how often an item serves as a negative
"""
