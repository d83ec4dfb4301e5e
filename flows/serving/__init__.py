"""The HTTP server: questions, items, triplets and rounds of the served version."""
