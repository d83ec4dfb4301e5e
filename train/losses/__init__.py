"""Losses on embeddings, one a file: formula, source, shapes and units in each docstring.

Every loss is a module from a Batch to a LossValue. Distances are squared Euclidean on unit vectors,
in [0, 4], unless a loss says that it reads unsquared ones, in [0, 2].
"""

from remine.train.losses.batch import Batch, LossValue
from remine.train.losses.distances import squared_distances
from remine.train.losses.triplet import triplet_loss

__all__ = ["Batch", "LossValue", "squared_distances", "triplet_loss"]
