"""Softmax over the training classes, plain and L2-constrained."""

import math

from torch import nn
from torch.nn import functional

from remine.data.errors import InputError
from remine.train.losses.batch import Batch, LossValue
from remine.train.losses.distances import full


class SoftmaxLoss(nn.Module):
    """Cross-entropy of W f + b over the training classes; f the features before normalisation.

    For comparison: retrieval uses the layer before the classifier. With `alpha` > 0 f is scaled to
    that length first (Ranjan et al. 2017, eq. 4): plain softmax can lower its loss by long
    features of easy items alone.
    """

    def __init__(self, dimensions: int, classes: int, alpha: float = 0.0) -> None:
        """Classify `dimensions` features into `classes`; `alpha` 0 is plain."""
        super().__init__()
        self.alpha = alpha
        self.classifier = nn.Linear(dimensions, classes)

    def forward(self, batch: Batch) -> LossValue:
        """The mean over the batch; active is the share of items that are misclassified."""
        features = full(batch.embeddings if self.alpha else batch.features)
        if self.alpha:
            features = self.alpha * functional.normalize(features)
        logits = self.classifier(features)
        labels = batch.known_labels
        wrong = (logits.detach().argmax(dim=1) != labels).float().mean()
        return LossValue(functional.cross_entropy(logits, labels), wrong)


def least_alpha(classes: int, probability: float) -> float:
    """log(p (C - 2) / (1 - p)): a shorter alpha cannot reach probability p (Ranjan 2017, eq. 5).

    C classes on a sphere, far enough apart, in the best case. 0 for C <= 2.
    """
    if classes <= 2:
        return 0.0
    return max(0.0, math.log(probability * (classes - 2) / (1 - probability)))


def check_alpha(alpha: float, classes: int, probability: float) -> None:
    """Refuse an alpha below its bound."""
    if alpha < (least := least_alpha(classes, probability)):
        raise InputError(
            f"train.losses.l2_softmax.alpha is {alpha}: with {classes} classes a probability of"
            f" {probability} is out of reach below {math.ceil(100 * least) / 100}"
        )
