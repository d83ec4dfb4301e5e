"""Synthetic negatives: reflections of pairs, and two generators that are trained for it.

In reading order:

    symmetrical  pairs reflected about themselves; the hardest of 16 negatives is used
    networks     the generator network, and how it is trained beside the encoder
    hdml         negatives moved towards the anchor, mapped back by an autoencoder
    daml         negatives generated adversarially from a triplet
"""
