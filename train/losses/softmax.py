"""Softmax cross-entropy over the training classes, plain and L2-constrained."""

import math

from torch import nn
from torch.nn import functional

from remine.data.errors import InputError
from remine.train.losses.batch import Batch, LossValue
from remine.train.losses.distances import at_least_float32


class SoftmaxLoss(nn.Module):
    """Cross-entropy of W f + b over the training classes; f the features before normalisation.

    A baseline: retrieval uses the layer before the classifier. With `alpha` > 0, f is scaled to
    that length first (L2-constrained softmax, Ranjan et al. 2017, eq. 4), because plain softmax can
    lower its loss by merely lengthening the features of easy items.
    """

    def __init__(self, dimensions: int, classes: int, alpha: float = 0.0) -> None:
        """Classify (m, dimensions) features into `classes`; `alpha` 0 is plain softmax."""
        super().__init__()
        self.alpha = alpha
        self.classifier = nn.Linear(dimensions, classes)

    def forward(self, batch: Batch) -> LossValue:
        """Mean over the batch; active is the share of misclassified items."""
        features = at_least_float32(batch.embeddings if self.alpha else batch.features)
        if self.alpha:
            features = self.alpha * functional.normalize(features)
        logits = self.classifier(features)
        labels = batch.required_labels
        error_rate = (logits.detach().argmax(dim=1) != labels).float().mean()
        return LossValue(functional.cross_entropy(logits, labels), error_rate)


def least_alpha(classes: int, probability: float) -> float:
    """log(p (C - 2) / (1 - p)): the least alpha that can reach probability p (Ranjan 2017, eq. 5).

    A lower bound for C classes spread over the sphere in the best way. 0 for C <= 2.
    """
    if classes <= 2:
        return 0.0
    return max(0.0, math.log(probability * (classes - 2) / (1 - probability)))


def check_alpha(alpha: float, classes: int, probability: float) -> None:
    """Refuse an alpha below `least_alpha`."""
    if alpha < (least := least_alpha(classes, probability)):
        raise InputError(
            f"train.losses.l2_softmax.alpha is {alpha}: with {classes} classes a probability of"
            f" {probability} is out of reach below {math.ceil(100 * least) / 100}"
        )
