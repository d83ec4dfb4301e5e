"""The exact scan (`scan`) in plain torch for a GPU: the same answers, bit for bit.

Tested on CPU tensors only, against the compiled loops and the plain-loop oracle. Everything is
standard torch; nothing is written for a particular GPU.

Slabs of the gallery are copied to the device, and blocks of anchors are compared with them tile by
tile. The scores of a tile are reduced to the maximum of each CHUNK, and only chunks that may matter
to a window are examined: scores certainly closer than its floor are counted; scores that may be in
its answer or cannot be told apart from its floor (`slack`) are recomputed in float64. Because the
steps are not fused, every score is written to memory and read back, which takes a GPU longer than
the product itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from remine.data.types import Float32
from remine.mining.problem import Problem
from remine.mining.row_lists import bounded_slices, places_within
from remine.mining.search.slack import Operand, slack_of
from remine.mining.search.windows import WindowMatches, Windows

SLAB = 2**22  # gallery rows on the device at once; 6 d bytes each, 3 GB at d = 128
ANCHORS, TILE, CHUNK = 4096, 2**15, 256  # 128 M scores at once, of 2 or 4 bytes
PIECE = 2**18  # chunks examined at once, 256 MB
CANDIDATES = 2**20  # distances computed at once, 16 d bytes each
EXCLUDED = 2**23  # pairs excluded in a block, about 50 bytes each while they are sorted
NO_SCORE = float("-inf")


def scan_on(
    device: torch.device,
    problem: Problem,
    windows: Windows,
    matches: WindowMatches,
    first: int = 0,
    *,
    half: bool,
) -> None:
    """Search the whole gallery on `device` and update `matches`; see `scan.scan`."""
    blocks = bounded_slices(problem.exclusions.sizes(), ANCHORS, EXCLUDED)
    with _full_precision_products():
        for start in range(0, len(problem.gallery), SLAB):
            slab = Slab.of(device, problem.gallery[start : start + SLAB], start + first, half=half)
            for part in blocks:
                block = Block(device, problem.block(part), windows.block(part), matches, slab)
                for tile in range(0, len(slab.vectors), TILE):
                    block.take(tile)
                block.store(matches)


@contextmanager
def _full_precision_products() -> Iterator[None]:
    """Float32 products without TF32, bfloat16 products summed in float32, as `slack` assumes."""
    precision = torch.get_float32_matmul_precision()
    reduced_precision = torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = reduced_precision


@dataclass(frozen=True, kw_only=True)
class Slab:
    """Gallery rows on the device.

    Attributes:
        vectors: (m, d) float32.
        operand: (m, d) as they are multiplied, bfloat16 or float32.
        error: The largest rounding error of a row, see `Operand`.
        first: The gallery row of the first vector.
    """

    vectors: Tensor
    operand: Tensor
    error: float
    first: int

    @classmethod
    def of(cls, device: torch.device, vectors: Float32, first: int, *, half: bool) -> "Slab":
        """Copy gallery rows to the device."""
        operand = Operand.of(vectors, half=half)
        device_vectors = torch.from_numpy(vectors).to(device)
        return cls(
            vectors=device_vectors,
            operand=operand.vectors.to(device) if half else device_vectors,
            error=float(operand.error.max()),
            first=first,
        )


class Block:
    """A block of anchors on the device with the state of their windows, and the current slab.

    Windows are numbered from 0 in the order of the anchors, and owner (w,) is the anchor of each.
    Group j holds the j-th window of every anchor, so that no anchor occurs twice in a group.
    """

    def __init__(
        self,
        device: torch.device,
        problem: Problem,
        windows: Windows,
        matches: WindowMatches,
        slab: Slab,
    ) -> None:
        """Copy the state of the block to the device."""
        self.slab, self.device = slab, device
        sizes = windows.stops - windows.starts
        place = places_within(sizes)
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
        self.rows = self._put(matches.rows[self.numbers])
        self.distances = self._put(matches.distances[self.numbers])
        self.closer = self._put(matches.closer[self.numbers])
        anchor, row = problem.exclusions.flat()
        order = np.argsort(row, kind="stable")
        # (2, e): slab row and anchor of each excluded pair, by slab row.
        self.excluded_entries = self._put(np.stack([row[order] - slab.first, anchor[order]]))

    def take(self, start: int) -> None:
        """Update the windows with the slab's rows from `start` to the end of the tile."""
        columns = self.slab.operand[start : start + TILE]
        chunks = -(-len(columns) // CHUNK)
        scores = self.queries.new_full((len(self.queries), chunks * CHUNK), NO_SCORE)
        torch.mm(self.queries, columns.T, out=scores[:, : len(columns)])
        edges = torch.tensor([start, start + len(columns)], device=self.device)
        i, j = torch.searchsorted(self.excluded_entries[0].contiguous(), edges).tolist()
        scores[self.excluded_entries[1, i:j], self.excluded_entries[0, i:j] - start] = NO_SCORE
        scores = scores.view(len(scores), chunks, CHUNK)
        tops = scores.amax(dim=2)
        for group in self.groups:
            self._examine(group, scores, tops, start)

    def store(self, matches: WindowMatches) -> None:
        """Write the state back into `matches`."""
        matches.rows[self.numbers] = self.rows.cpu().numpy()
        matches.distances[self.numbers] = self.distances.cpu().numpy()
        matches.closer[self.numbers] = self.closer.cpu().numpy()

    def _examine(self, group: Tensor, scores: Tensor, tops: Tensor, start: int) -> None:
        """Update a group of windows with the chunks of a tile that may matter to them.

        Args:
            group: (g,) windows, one per anchor at most.
            scores: (b, chunks, CHUNK) of the block's anchors.
            tops: (b, chunks) the maximum of each chunk.
            start: The slab's row of the first score.
        """
        owner, slack = self.owner[group], self.slack[group]
        limit = 1 - 0.5 * self.floor[group]
        # Above `high` a score is certainly closer than the floor; at or below `beyond_floor`, which
        # leaves one slack of room for rounding, it is certainly farther.
        high, beyond_floor = limit + slack, limit - 2 * slack
        tops = tops[owner].float()
        low = 1 - 0.5 * self.distances[group, -1] - slack
        low = torch.maximum(low, self._bound(tops, beyond_floor) - 2 * slack)
        window, chunk = torch.nonzero(tops >= low[:, None], as_tuple=True)
        for piece in range(0, len(window), PIECE):
            w, c = window[piece : piece + PIECE], chunk[piece : piece + PIECE]
            values = scores[owner[w], c].float()
            closer = (values > high[w, None]).sum(dim=1)
            self.closer.index_add_(0, group[w], closer)
            certain = torch.where(values <= beyond_floor[w, None], values, NO_SCORE).amax(dim=1)
            certain_tops = torch.full_like(tops, NO_SCORE)
            certain_tops[w, c] = certain
            lowest = torch.maximum(low, self._bound(certain_tops, beyond_floor) - 2 * slack)
            is_candidate = (values >= lowest[w, None]) & (values <= high[w, None])
            entry, column = torch.nonzero(is_candidate, as_tuple=True)
            self._settle(group[w[entry]], start + c[entry] * CHUNK + column)

    def _bound(self, tops: Tensor, beyond_floor: Tensor) -> Tensor:
        """A lower bound (g,) on the score of each window's last match, from certain matches alone.

        Args:
            tops: (g, c) scores of distinct items.
            beyond_floor: (g,) a score at or below this is certainly farther than the floor.

        Returns:
            The depth-th largest of the certain scores. An item whose score is 2 slacks lower is
            certainly farther than all of them, so it cannot be a match.
        """
        depth = self.rows.shape[1]
        if tops.shape[1] < depth:
            return torch.full_like(beyond_floor, NO_SCORE)
        certain = torch.where(tops <= beyond_floor[:, None], tops, NO_SCORE)
        return certain.topk(depth, dim=1).values[:, -1]

    def _settle(self, windows: Tensor, columns: Tensor) -> None:
        """Recompute candidate pairs exactly and update their windows.

        Args:
            windows: (m,) window of each candidate.
            columns: (m,) row of the slab of each candidate.
        """
        for piece in range(0, len(windows), CANDIDATES):
            w, c = windows[piece : piece + CANDIDATES], columns[piece : piece + CANDIDATES]
            exact = in_order_distances(self.vectors[self.owner[w]], self.slab.vectors[c])
            inside = exact > self.floor[w]
            self.closer.index_add_(0, w, (~inside).long())
            fits = inside & (exact <= self.distances[w, -1])
            self._merge(w[fits], exact[fits], c[fits] + self.slab.first)

    def _merge(self, windows: Tensor, distances: Tensor, rows: Tensor) -> None:
        """Merge m new entries into the lists of their windows, by distance, then by row.

        Empty places have the distance of the ceiling and row -1, so they sort before an entry that
        is equally far, which therefore stays out: ceilings are exclusive.
        """
        changed_windows, depth = torch.unique(windows), self.rows.shape[1]
        w = torch.cat([changed_windows.repeat_interleave(depth), windows])
        d = torch.cat([self.distances[changed_windows].flatten(), distances])
        r = torch.cat([self.rows[changed_windows].flatten(), rows])
        order = torch.argsort(r, stable=True)
        order = order[torch.argsort(d[order], stable=True)]
        order = order[torch.argsort(w[order], stable=True)]
        w, d, r = w[order], d[order], r[order]
        place = torch.arange(len(w), device=self.device) - torch.searchsorted(w, w)
        is_listed = place < depth
        self.distances[w[is_listed], place[is_listed]] = d[is_listed]
        self.rows[w[is_listed], place[is_listed]] = r[is_listed]

    def _put(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def in_order_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances (m,) of the rows of a and b, (m, d) each, as `scan_kernels.distance` sums.

    In float64, one component after the other; each square is rounded before it is added (two
    separate kernels, so no fused multiply-add), and the sum is rounded to float32 once. The bits
    are the same on every device.
    """
    a, b = a.T.contiguous(), b.T.contiguous()
    total = torch.zeros(a.shape[1], dtype=torch.float64, device=a.device)
    for x, y in zip(a, b, strict=True):
        difference = x.double() - y.double()
        total += difference * difference
    return total.float()
