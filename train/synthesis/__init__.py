"""Negatives that no item is: reflections of pairs, and two generators that learn to make them."""
