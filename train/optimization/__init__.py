"""From the gradient of a batch to the next weights.

In reading order:

    schedule  the learning rate of each step: warm-up, then constant, linear or cosine
    groups    AdamW with rates by layer and for the head, and decay of matrices alone
    modes     which modules normalise by their own statistics, and which weights are held
    cached    a batch through the encoder in parts, with the loss of the whole
    memory    how large the parts may be
"""
