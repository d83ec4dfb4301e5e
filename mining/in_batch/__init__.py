"""Mining inside a training batch (online mining).

config    settings of the miners
miners    triplets from the embeddings of one batch
"""
