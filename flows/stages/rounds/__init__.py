"""What a round of training needs before it runs.

In reading order:

    settings  the settings of a round: by the kind of encoder, the round's number and the data
    checks    what is refused before anything runs
    making    everything together, in the state that a checkpoint left
"""
