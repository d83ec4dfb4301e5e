"""Random changes of pictures while training, never of what is embedded and mined.

In reading order:

    config   settings and their limits
    augment  affine map, brightness, contrast and noise of a batch of pictures
"""
