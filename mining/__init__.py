"""Embeddings and labels to hard and semi-hard triplets, over the whole dataset."""

from mining.config import MiningConfig
from mining.miner import Mined, mine

__all__ = ["Mined", "MiningConfig", "mine"]
