"""Encoders: networks from inputs to unit vectors.

In reading order:

    config            the settings of an encoder
    encoder           the `Encoder` module, and networks trained from scratch
    heads             what is trained on top of a backbone
    weights_packages  pretrained weights from installed packages
    efficientnet      EfficientNet-Lite0 for photos
    pretrained        networks of other libraries, MiniLM among them
    custom            networks from a function of the user
    adapter           LoRA beside the weights of a backbone
    layers            parameters by layer, from the output to the input
    older_names       names of tensors in stores of earlier versions
    design            what determines an architecture; builds the encoder from it
"""
