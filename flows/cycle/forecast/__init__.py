"""What a first cycle will take: time, memory and disk, from sizes and a probe of two seconds.

In reading order:

    sample      a few items of the source, through the transform of the settings
    network     a few of these through the encoder, forwards and backwards
    retrieval   seconds of indexing, evaluating and mining, by counts and dimensions
    stages      what each stage takes, and the cycle
    lines       the same for people
"""
