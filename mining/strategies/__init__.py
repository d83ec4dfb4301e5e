"""Strategies: which positives and which negatives an anchor is mined with.

In reading order:

    positives             the (anchor, positive) pairs
    positive_duplicates   copies of a positive among the negatives: counted, or barred
    negatives             strategies to windows of distance, and matches in them to negatives
    random_negatives      negatives by chance: uniform, within a window, weighted by distance
    random_kernels        compiled loops that select positives and random negatives
    hub_cap               a limit on how often an item serves as a negative
"""
