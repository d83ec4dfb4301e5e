"""The exact scan (`scan`) in plain torch, for a GPU: the same answers, bit for bit.

It was tested on CPU tensors only, against the compiled loops and the plain-loop oracle: no GPU was
at hand. Whatever torch can put on a device runs here; nothing is written for one kind of GPU.

Slabs of the gallery lie on the device; blocks of anchors meet them tile by tile. A tile's scores
are reduced to the largest of each CHUNK, and only chunks that may matter to a window are looked at:
what is closer than its floor beyond doubt is counted, what may be in its answer or cannot be told
apart from its floor (`slack`) is summed again in float64. Being unfused, it writes every score
to memory and reads it back, which on a GPU takes longer than its product.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from remine.data.types import Float32
from remine.mining.problem import Problem
from remine.mining.search.slack import Operand, slack_of
from remine.mining.search.windows import Found, Windows

SLAB = 2**22  # gallery rows on the device at once; 6 d bytes each, 3 GB at d = 128
ANCHORS, TILE, CHUNK = 4096, 2**15, 256  # 128 M scores at once, of 2 or 4 bytes
PIECE = 2**18  # chunks looked at at once, 256 MB
CANDIDATES = 2**20  # distances summed at once, 16 d bytes each
NEVER = float("-inf")


def scan_on(
    device: torch.device,
    problem: Problem,
    windows: Windows,
    found: Found,
    first: int = 0,
    *,
    half: bool,
) -> None:
    """Take the whole gallery into account; see `scan.scan`."""
    blocks = range(0, len(problem), ANCHORS)
    with _honest_products():
        for start in range(0, len(problem.gallery), SLAB):
            slab = Slab.of(device, problem.gallery[start : start + SLAB], start + first, half=half)
            for i in blocks:
                part = slice(i, min(i + ANCHORS, len(problem)))
                block = Block(device, problem.block(part), windows.block(part), found, slab)
                for tile in range(0, len(slab.vectors), TILE):
                    block.take(tile)
                block.store(found)


@contextmanager
def _honest_products() -> Iterator[None]:
    """Float32 products without TF32, bfloat16 ones summed in float32, as the slack supposes."""
    precision = torch.get_float32_matmul_precision()
    reduced = torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = reduced


@dataclass(frozen=True, kw_only=True)
class Slab:
    """Gallery rows on the device.

    vectors: (m, d) float32. operand: (m, d) as they are multiplied. error: the largest rounding of
    a row. first: the row that the first is called.
    """

    vectors: Tensor
    operand: Tensor
    error: float
    first: int

    @classmethod
    def of(cls, device: torch.device, vectors: Float32, first: int, *, half: bool) -> "Slab":
        """Put rows on the device."""
        operand = Operand.of(vectors, half=half)
        whole = torch.from_numpy(vectors).to(device)
        return cls(
            vectors=whole,
            operand=operand.vectors.to(device) if half else whole,
            error=float(operand.error.max()),
            first=first,
        )


class Block:
    """Some anchors on the device, what was found in their windows so far, and a slab to look at.

    Windows count from 0 in the order of the anchors: owner (w,) is each one's anchor; groups are
    the first windows of all anchors, the second ones and so on, so that in one group no anchor
    stands twice.
    """

    def __init__(
        self, device: torch.device, problem: Problem, windows: Windows, found: Found, slab: Slab
    ) -> None:
        """Load the state of the block."""
        self.slab, self.device = slab, device
        sizes = windows.stops - windows.starts
        place = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        self.numbers = np.repeat(windows.starts, sizes) + place
        self.owner = self._put(np.repeat(np.arange(len(sizes)), sizes))
        self.groups = [
            self._put(np.flatnonzero(place == j)) for j in range(int(sizes.max(initial=0)))
        ]
        self.vectors = self._put(problem.anchors)
        half = slab.operand.dtype == torch.bfloat16
        side = Operand.of(problem.anchors, half=half)
        self.queries = side.vectors.to(device)
        slack = slack_of(side.error, slab.error, problem.anchors.shape[1], half=half)
        self.slack = self._put(slack)[self.owner]
        self.floor = self._put(windows.floor[self.numbers])
        self.rows = self._put(found.rows[self.numbers])
        self.distances = self._put(found.distances[self.numbers])
        self.closer = self._put(found.closer[self.numbers])
        anchor, row = problem.barred.flat()
        order = np.argsort(row, kind="stable")
        self.barred = self._put(np.stack([row[order] - slab.first, anchor[order]]))

    def take(self, start: int) -> None:
        """Take the products with the slab's rows from `start` on into account."""
        columns = self.slab.operand[start : start + TILE]
        chunks = -(-len(columns) // CHUNK)
        scores = self.queries.new_full((len(self.queries), chunks * CHUNK), NEVER)
        torch.mm(self.queries, columns.T, out=scores[:, : len(columns)])
        edges = torch.tensor([start, start + len(columns)], device=self.device)
        i, j = torch.searchsorted(self.barred[0].contiguous(), edges).tolist()
        scores[self.barred[1, i:j], self.barred[0, i:j] - start] = NEVER
        scores = scores.view(len(scores), chunks, CHUNK)
        tops = scores.amax(dim=2)
        for group in self.groups:
            self._look(group, scores, tops, start)

    def store(self, found: Found) -> None:
        """Write the state back."""
        found.rows[self.numbers] = self.rows.cpu().numpy()
        found.distances[self.numbers] = self.distances.cpu().numpy()
        found.closer[self.numbers] = self.closer.cpu().numpy()

    def _look(self, group: Tensor, scores: Tensor, tops: Tensor, start: int) -> None:
        """Look for the windows `group` (g,) into those chunks of scores that may matter."""
        owner, slack = self.owner[group], self.slack[group]
        limit = 1 - 0.5 * self.floor[group]
        high, beyond = limit + slack, limit - 2 * slack
        tops = tops[owner].float()
        low = 1 - 0.5 * self.distances[group, -1] - slack
        low = torch.maximum(low, self._bound(tops, beyond) - 2 * slack)
        which, chunk = torch.nonzero(tops >= low[:, None], as_tuple=True)
        for piece in range(0, len(which), PIECE):
            w, c = which[piece : piece + PIECE], chunk[piece : piece + PIECE]
            values = scores[owner[w], c].float()
            closer = (values > high[w, None]).sum(dim=1)
            self.closer.index_add_(0, group[w], closer)
            sure = torch.where(values <= beyond[w, None], values, NEVER).amax(dim=1)
            best = torch.full_like(tops, NEVER)
            best[w, c] = sure
            lowest = torch.maximum(low, self._bound(best, beyond) - 2 * slack)
            maybe = (values >= lowest[w, None]) & (values <= high[w, None])
            entry, column = torch.nonzero(maybe, as_tuple=True)
            self._settle(group[w[entry]], start + c[entry] * CHUNK + column)

    def _bound(self, tops: Tensor, beyond: Tensor) -> Tensor:
        """A score (g,) that as many as a window holds reach, all of them surely beyond its floor.

        tops: (g, c) scores of different items. What lies 2 slacks below is farther than all these.
        """
        depth = self.rows.shape[1]
        if tops.shape[1] < depth:
            return torch.full_like(beyond, NEVER)
        sure = torch.where(tops <= beyond[:, None], tops, NEVER)
        return sure.topk(depth, dim=1).values[:, -1]

    def _settle(self, windows: Tensor, columns: Tensor) -> None:
        """Take the slab's rows `columns` (m,), one for each of `windows` (m,), into account."""
        for piece in range(0, len(windows), CANDIDATES):
            w, c = windows[piece : piece + CANDIDATES], columns[piece : piece + CANDIDATES]
            exact = in_order_distances(self.vectors[self.owner[w]], self.slab.vectors[c])
            inside = exact > self.floor[w]
            self.closer.index_add_(0, w, (~inside).long())
            fits = inside & (exact <= self.distances[w, -1])
            self._merge(w[fits], exact[fits], c[fits] + self.slab.first)

    def _merge(self, windows: Tensor, distances: Tensor, rows: Tensor) -> None:
        """Merge entries (m,) with the lists of their windows: by distance, then by row.

        Empty places lie at the ceiling with row -1, before whatever is as far: that stays out.
        """
        touched, depth = torch.unique(windows), self.rows.shape[1]
        w = torch.cat([touched.repeat_interleave(depth), windows])
        d = torch.cat([self.distances[touched].flatten(), distances])
        r = torch.cat([self.rows[touched].flatten(), rows])
        order = torch.argsort(r, stable=True)
        order = order[torch.argsort(d[order], stable=True)]
        order = order[torch.argsort(w[order], stable=True)]
        w, d, r = w[order], d[order], r[order]
        place = torch.arange(len(w), device=self.device) - torch.searchsorted(w, w)
        kept = place < depth
        self.distances[w[kept], place[kept]] = d[kept]
        self.rows[w[kept], place[kept]] = r[kept]

    def _put(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def in_order_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances (m,) of rows a (m, d) and b (m, d), as `scan_kernels.distance` sums them.

    In float64, one component after the other, each square rounded before it is added (two kernels,
    which nothing fuses), rounded to float32 once: the same bits on any device.
    """
    a, b = a.T.contiguous(), b.T.contiguous()
    total = torch.zeros(a.shape[1], dtype=torch.float64, device=a.device)
    for x, y in zip(a, b, strict=True):
        difference = x.double() - y.double()
        total += difference * difference
    return total.float()
