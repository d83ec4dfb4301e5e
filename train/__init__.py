"""Training: triplets or PK batches in, a better encoder out.

In reading order:

    config        settings of a round of training
    recipe        what its settings at "auto" stand for, by kind of encoder
    encoders      networks from inputs to unit vectors
    batches       streams of batches: mined triplets, PK batches
    augmentation  random changes of pictures while training
    losses        losses on embeddings, each in a module of its own
    synthesis     synthetic negatives
    objective     miner, memory, synthesis and loss of a step as one module
    optimization  AdamW: rates, groups, batches in parts
    loop, course  one round of training, resumable
    monitor       staleness, collapse and validation, measured while a round trains

    config_checks settings that contradict one another
    history       what a round notes of itself
    saves         what a killed round resumes from
    checkpoint    weights and states to safetensors and back
    precision     bfloat16 where the hardware is fast at it
    processes     one round over several processes
"""
