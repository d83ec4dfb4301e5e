"""Engines: ways to search windows, chosen, measured and opened.

In reading order:

    engines         exact, by lists, through FAISS: prepared, and opened for any of the anchors
    engine_choice   which engine, at what expected cost
    engine_recall   how much of the exact answer an engine finds, on a sample
    memory_forecast memory that mining needs
"""
