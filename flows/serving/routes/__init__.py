"""The endpoints of the HTTP server, one module per family.

In reading order:

    search     /search: neighbours of an item, a text, a vector or a picture, one or many
    items      /items and /labels
    triplets   /triplets, /rounds, /compare and /map
    suspects   /suspects: items that are probably mislabelled
    state      /index, /versions, /health and /metrics
    page       the files of the page, and /session, where a browser signs in
"""
