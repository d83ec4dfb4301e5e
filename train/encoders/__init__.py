"""Encoders: networks from inputs to unit vectors.

In reading order:

    encoder           the `Encoder` module, and networks trained from scratch
    heads             what is trained on top of a backbone
    weights_packages  pretrained weights from installed packages
    efficientnet      EfficientNet-Lite0 for photos
    minilm            MiniLM for text
    custom            networks from a function of the user
    layers            parameters by layer, from the output to the input
    design            what determines an architecture; builds the encoder from it
"""
