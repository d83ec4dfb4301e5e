"""The N-pair loss."""

import torch
from torch import Tensor, nn

from remine.train.losses.batch import Batch, LossValue, zero_loss
from remine.train.losses.config import NPairConfig
from remine.train.losses.distances import at_least_float32


class NPairLoss(nn.Module):
    """log(1 + sum_j exp(f_i . p_j - f_i . p_i)), mean over pairs i (Sohn 2016, eq. 7).

    (f_i, p_i) is a pair of one class; j runs over the positives of other classes and the negatives
    of given triplets. A batch may have several pairs of one class: they are not negatives of one
    another. The features are those before normalisation, so l2 / 4 * (mean |f|^2 + mean |p|^2) is
    added to bound their lengths (section 3.3).
    """

    def __init__(self, config: NPairConfig) -> None:
        """With the weight of `config`."""
        super().__init__()
        self.l2 = config.l2

    def forward(self, batch: Batch) -> LossValue:
        """Loss over the pairs of the batch."""
        features = at_least_float32(batch.features)
        anchors, positives = batch.pairs()
        if not anchors.numel():
            return zero_loss(features)
        f, p = features.index_select(0, anchors), features.index_select(0, positives)
        candidates, negative = batch.pair_candidates(anchors, positives)
        similarity = f @ features.index_select(0, candidates).T
        loss = n_pair_terms(similarity, (f * p).sum(dim=1), negative).mean()
        return LossValue(loss + regulariser(f, p, self.l2), torch.ones_like(loss.detach()))


def n_pair_terms(similarity: Tensor, pair_similarity: Tensor, negative: Tensor) -> Tensor:
    """log(1 + sum over negatives of exp(similarity - pair_similarity)) of each pair.

    Computed as one logsumexp with an extra zero for the 1 = exp(0), so that nothing overflows.

    Args:
        similarity: (q, c) of anchors to candidates.
        pair_similarity: (q,) of anchors to their positives.
        negative: (q, c) bool, which candidates are negatives.

    Returns:
        (q,) terms.

    """
    gaps = torch.where(negative, similarity - pair_similarity[:, None], -torch.inf)
    zero = gaps.new_zeros((len(gaps), 1))
    return torch.logsumexp(torch.cat([zero, gaps], dim=1), dim=1)


def regulariser(f: Tensor, p: Tensor, l2: float) -> Tensor:
    """l2 / 4 * (mean |f|^2 + mean |p|^2) of (q, d) anchors and positives."""
    return l2 / 4 * (f.square().sum(dim=1).mean() + p.square().sum(dim=1).mean())
