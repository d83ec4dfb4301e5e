"""Training: triplets or PK batches in, a better encoder out.

In reading order:

    config        settings of the encoder and of a round of training
    encoders      networks from inputs to unit vectors
    batches       streams of batches: mined triplets, PK batches
    augmentation  random changes of pictures while training
    losses        losses on embeddings, each in a module of its own
    synthesis     synthetic negatives
    objective     miner, memory, synthesis and loss of a step as one module
    loop          one round of training, resumable
    monitor       staleness and collapse, measured while a round trains

    checkpoint    weights and states to safetensors and back
    precision     bfloat16 where the hardware is fast at it
    processes     one round over several processes
"""
