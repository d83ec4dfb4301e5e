"""The N-pair loss."""

import torch
from torch import Tensor, nn

from remine.train.losses.batch import Batch, LossValue
from remine.train.losses.config import NPairConfig
from remine.train.losses.distances import full


class NPairLoss(nn.Module):
    """log(1 + sum_j exp(f_i . p_j - f_i . p_i)), the mean over pairs (Sohn 2016, eq. 7).

    f_i, p_i: a pair of one class, j over positives of other classes; the features are those before
    normalisation, so l2 / 4 * (mean |f|^2 + mean |p|^2) holds their lengths (section 3.3). A batch
    may hold several pairs of one class: they are not negatives of one another. The negatives of
    given triplets join the j: mined for one anchor, they are negatives of all others, too.
    """

    def __init__(self, config: NPairConfig) -> None:
        """With the weight of `config`."""
        super().__init__()
        self.l2 = config.l2

    def forward(self, batch: Batch) -> LossValue:
        """Over the pairs of the batch."""
        features = full(batch.features)
        anchors, positives = batch.pairs()
        if not anchors.numel():
            return LossValue(0 * features.sum(), features.new_zeros(()))
        f, p = features.index_select(0, anchors), features.index_select(0, positives)
        candidates = positives if batch.triplets is None else batch.triplets[1:].reshape(-1)
        labels = batch.known_labels
        negative = labels[anchors][:, None] != labels[candidates]
        similarity = f @ features.index_select(0, candidates).T
        loss = n_pair_terms(similarity, (f * p).sum(dim=1), negative).mean()
        return LossValue(loss + regulariser(f, p, self.l2), torch.ones_like(loss.detach()))


def n_pair_terms(similarity: Tensor, own: Tensor, negative: Tensor) -> Tensor:
    """log(1 + sum over negatives of exp(similarity - own)): (q, c), (q,), (q, c) bool to (q,).

    As one logsumexp with a zero joined: the 1 is exp(0), and nothing overflows.
    """
    gaps = torch.where(negative, similarity - own[:, None], -torch.inf)
    zero = gaps.new_zeros((len(gaps), 1))
    return torch.logsumexp(torch.cat([zero, gaps], dim=1), dim=1)


def regulariser(f: Tensor, p: Tensor, l2: float) -> Tensor:
    """l2 / 4 * (mean |f|^2 + mean |p|^2) of (q, d) anchors and positives."""
    return l2 / 4 * (f.square().sum(dim=1).mean() + p.square().sum(dim=1).mean())
