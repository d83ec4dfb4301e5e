"""What is mined: anchors, a gallery, and who may be whose positive or negative.

Labels, lists of labels and given pairs (queries with their answers in a corpus) all come down to
two lists of gallery rows per anchor: its positives, and all that is barred as a negative.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from remine.data.errors import InputError
from remine.data.types import Embeddings, Float32, Int32, Int64

Rows = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Lists:
    """One ascending list of gallery rows per anchor: rows[starts[i]:stops[i]].

    Two lists may be the same part of `rows`, as those of one class are, or else do not overlap.
    """

    starts: Int64
    stops: Int64
    rows: Int64

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, anchors: slice | Rows) -> Self:
        """The lists of some anchors."""
        return type(self)(starts=self.starts[anchors], stops=self.stops[anchors], rows=self.rows)

    def flat(self) -> tuple[Rows, Rows]:
        """(anchor, row) of every entry, by anchor."""
        sizes = self.stops - self.starts
        anchor = np.repeat(np.arange(len(sizes)), sizes)
        within = np.arange(len(anchor)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return anchor, self.rows[np.repeat(self.starts, sizes) + within]

    def extended(self, anchors: Rows, rows: Rows) -> Self:
        """The lists with the entries (anchor, row) added where they are new."""
        first, second = self.flat()
        return type(self).of(
            np.concatenate([first, anchors]), np.concatenate([second, rows]), len(self)
        )

    def renamed(self, names: Int64) -> Self:
        """The lists with names[row] for each row, ascending again. Lists overlap wholly or not."""
        edges = np.unique(np.concatenate([self.starts, self.stops]))
        segment = np.searchsorted(edges, np.arange(len(self.rows)), side="right")
        rows = names[self.rows]
        return type(self)(
            starts=self.starts, stops=self.stops, rows=rows[np.lexsort((rows, segment))]
        )

    @classmethod
    def of(cls, anchors: Rows, rows: Rows, count: int) -> Self:
        """The lists of `count` anchors from entries (anchor, row) in any order, each once."""
        both = np.unique(np.stack([anchors, rows], axis=1).astype(np.int64), axis=0)
        edges = np.searchsorted(both[:, 0], np.arange(count + 1))
        return cls(starts=edges[:-1], stops=edges[1:], rows=np.ascontiguousarray(both[:, 1]))


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Anchors (a, d) and a gallery (n, d) of float32 unit vectors, and their relations.

    anchor_ids (a,) and gallery_ids (n,) int64, the latter ascending. own: (a,) the gallery row of
    each anchor itself, -1 where it is not in the gallery. positives, barred: lists per anchor; an
    anchor in the gallery is in its own barred list, and never its own positive. partners: for each
    gallery row the rows of its class, from which a negative's second negative is drawn; None where
    items have no single class.
    """

    anchors: Float32
    anchor_ids: Int64
    own: Int64
    gallery: Float32
    gallery_ids: Int64
    positives: Lists
    barred: Lists
    partners: Lists | None = None

    def __len__(self) -> int:
        return len(self.anchors)

    def block(self, anchors: slice | Rows) -> Self:
        """The same problem for some of the anchors."""
        return type(self)(
            anchors=self.anchors[anchors],
            anchor_ids=self.anchor_ids[anchors],
            own=self.own[anchors],
            gallery=self.gallery,
            gallery_ids=self.gallery_ids,
            positives=self.positives[anchors],
            barred=self.barred[anchors],
            partners=self.partners,
        )

    def reordered(self, order: Int64) -> Self:
        """The same problem with gallery row order[i] at place i; ids are no longer ascending."""
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        own = np.where(self.own >= 0, place[self.own], -1)
        barred = self.barred.renamed(place)
        same = self.positives is self.barred
        partners = self.partners
        if partners is not None:
            partners = barred[order] if partners is self.barred else partners.renamed(place)[order]
        values = {
            **vars(self),
            "own": own,
            "gallery": self.gallery[order],
            "gallery_ids": self.gallery_ids[order],
            "positives": barred if same else self.positives.renamed(place),
            "barred": barred,
            "partners": partners,
        }
        return type(self)(**values)

    def forbid(self, pairs: Int64) -> Self:
        """Bar pairs of ids (p, 2) that are the same thing under two labels, in both directions."""
        known = np.isin(pairs, self.gallery_ids).all(axis=1)
        if not known.all():
            missing = pairs[~known][0]
            raise InputError(
                f"same-as pair {missing.tolist()}: one of the ids is not in the gallery"
            )
        both = np.concatenate([pairs, pairs[:, ::-1]])
        order = np.argsort(self.anchor_ids, kind="stable")
        place = np.searchsorted(self.anchor_ids[order], both[:, 0])
        place = np.minimum(place, len(order) - 1)
        here = self.anchor_ids[order[place]] == both[:, 0]
        rows = np.searchsorted(self.gallery_ids, both[here, 1])
        return self._barring(self.barred.extended(order[place[here]], rows))

    def _barring(self, barred: Lists) -> Self:
        values = {**vars(self), "barred": barred}
        return type(self)(**values)


def by_label(gallery: Embeddings, anchors: Rows | None = None) -> Problem:
    """Every item (or those at rows `anchors`) as anchor; positive = the same label."""
    lists = _class_lists(gallery.label_codes)
    whole = Problem(
        anchors=gallery.vectors,
        anchor_ids=gallery.ids,
        own=np.arange(len(gallery)),
        gallery=gallery.vectors,
        gallery_ids=gallery.ids,
        positives=lists,
        barred=lists,
        partners=lists,
    )
    return whole if anchors is None else whole.block(anchors)


def by_labels(ids: Int64, vectors: Float32, codes: Sequence[Int32]) -> Problem:
    """Items with several labels each, by their codes: positive = any label shared."""
    items = np.repeat(np.arange(len(codes)), [len(own) for own in codes])
    holders = _class_lists(np.concatenate(codes))
    anchor, entry = holders.flat()  # every entry with every entry of the same label
    rows = np.arange(len(ids))
    lists = Lists.of(
        np.concatenate([items[anchor], rows]), np.concatenate([items[entry], rows]), len(codes)
    )
    return Problem(
        anchors=vectors,
        anchor_ids=ids,
        own=rows,
        gallery=vectors,
        gallery_ids=ids,
        positives=lists,
        barred=lists,
    )


def by_pairs(
    queries: Float32,
    query_ids: Int64,
    corpus: Float32,
    corpus_ids: Int64,
    positives: Mapping[int, Sequence[int]],
) -> Problem:
    """Queries against a separate corpus; positives = the corpus ids given for each query id."""
    if strangers := set(positives) - set(query_ids.tolist()):
        raise InputError(f"positives name query {min(strangers)}, which is not there")
    rows_of = {int(item): row for row, item in enumerate(corpus_ids.tolist())}
    anchors: list[int] = []
    rows: list[int] = []
    for anchor, query in enumerate(query_ids.tolist()):
        for item in positives.get(query, ()):
            if item not in rows_of:
                raise InputError(f"query {query}: its positive {item} is not in the corpus")
            anchors.append(anchor)
            rows.append(rows_of[item])
    lists = Lists.of(np.array(anchors, np.intp), np.array(rows, np.intp), len(query_ids))
    return Problem(
        anchors=queries,
        anchor_ids=query_ids,
        own=np.full(len(query_ids), -1),
        gallery=corpus,
        gallery_ids=corpus_ids,
        positives=lists,
        barred=lists,
    )


def _class_lists(codes: Int32) -> Lists:
    """Per item the rows of its class, itself among them; one shared array of n rows."""
    order = np.argsort(codes, kind="stable").astype(np.int64)
    ordered = codes[order]
    starts = np.searchsorted(ordered, codes, side="left")
    return Lists(starts=starts, stops=np.searchsorted(ordered, codes, side="right"), rows=order)
