"""The mining problem: anchors, a gallery, and the relations between them.

Labels, lists of labels, and pairs (queries with their answers in a corpus) are all reduced to two
sets of gallery rows per anchor: its positives, and the rows excluded as its negatives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from remine.data.errors import InputError
from remine.data.types import Embeddings, Float32, Int32, Int64
from remine.mining.row_lists import RowLists, Rows, RowUnions, label_unions, lists_by_class


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Anchors, a gallery, and which gallery rows may be an anchor's positive or negative.

    Attributes:
        anchors: (a, d) float32 unit vectors.
        anchor_ids: (a,) int64.
        self_rows: (a,) int64 gallery row of the anchor itself, -1 if it is not in the gallery.
        gallery: (n, d) float32 unit vectors.
        gallery_ids: (n,) int64, ascending unless the problem was `reordered`.
        positives: Per anchor the rows that may be its positives. An anchor that is in the gallery
            may be listed; it is never used as its own positive.
        exclusions: Per anchor the rows that are never its negatives, itself included.
        partners: Per gallery row the rows of its class, from which the second negative of a triplet
            is drawn; None if items have no single class.
    """

    anchors: Float32
    anchor_ids: Int64
    self_rows: Int64
    gallery: Float32
    gallery_ids: Int64
    positives: RowUnions
    exclusions: RowUnions
    partners: RowLists | None = None

    def __len__(self) -> int:
        return len(self.anchors)

    def block(self, anchors: slice | Rows) -> Self:
        """The same problem for the given anchors."""
        return type(self)(
            anchors=self.anchors[anchors],
            anchor_ids=self.anchor_ids[anchors],
            self_rows=self.self_rows[anchors],
            gallery=self.gallery,
            gallery_ids=self.gallery_ids,
            positives=self.positives[anchors],
            exclusions=self.exclusions[anchors],
            partners=self.partners,
        )

    def reordered(self, order: Int64) -> Self:
        """The same problem with gallery row order[i] moved to place i; ids are then unsorted."""
        new_row = np.empty(len(order), np.int64)
        new_row[order] = np.arange(len(order))
        self_rows = np.where(self.self_rows >= 0, new_row[self.self_rows], -1)
        exclusions = self.exclusions.renumbered(new_row)
        # One list of class mates often serves all three relations; it stays one object.
        is_shared = self.positives is self.exclusions
        partners = self.partners
        if partners is not None:
            partners = (
                exclusions.parts[order]
                if partners is self.exclusions.parts
                else partners.renumbered(new_row)[order]
            )
        values = {
            **vars(self),
            "self_rows": self_rows,
            "gallery": self.gallery[order],
            "gallery_ids": self.gallery_ids[order],
            "positives": exclusions if is_shared else self.positives.renumbered(new_row),
            "exclusions": exclusions,
            "partners": partners,
        }
        return type(self)(**values)

    def forbid(self, pairs: Int64) -> Self:
        """The problem in which certain pairs are never anchor and negative, in either direction.

        Args:
            pairs: (p, 2) int64 ids of items that are the same thing under two labels.

        Raises:
            InputError: An id is not in the gallery.
        """
        in_gallery = np.isin(pairs, self.gallery_ids).all(axis=1)
        if not in_gallery.all():
            missing = pairs[~in_gallery][0]
            raise InputError(
                f"same-as pair {missing.tolist()}: one of the ids is not in the gallery"
            )
        directed_pairs = np.concatenate([pairs, pairs[:, ::-1]])
        order = np.argsort(self.anchor_ids, kind="stable")
        place = np.searchsorted(self.anchor_ids[order], directed_pairs[:, 0])
        place = np.minimum(place, len(order) - 1)
        is_anchor = self.anchor_ids[order[place]] == directed_pairs[:, 0]
        rows = np.searchsorted(self.gallery_ids, directed_pairs[is_anchor, 1])
        return self._with_exclusions(self.exclusions.extended(order[place[is_anchor]], rows))

    def _with_exclusions(self, exclusions: RowUnions) -> Self:
        values = {**vars(self), "exclusions": exclusions}
        return type(self)(**values)


def by_label(gallery: Embeddings, anchors: Rows | None = None) -> Problem:
    """A problem in which items of the same label are positives of one another.

    Args:
        gallery: All items.
        anchors: Rows of the items to use as anchors; all items if None.
    """
    lists = lists_by_class(gallery.label_codes)
    class_rows = RowUnions.single(lists)
    problem = Problem(
        anchors=gallery.vectors,
        anchor_ids=gallery.ids,
        self_rows=np.arange(len(gallery)),
        gallery=gallery.vectors,
        gallery_ids=gallery.ids,
        positives=class_rows,
        exclusions=class_rows,
        partners=lists,
    )
    return problem if anchors is None else problem.block(anchors)


def by_labels(ids: Int64, vectors: Float32, codes: Sequence[Int32]) -> Problem:
    """A problem over items with several labels each; positives share at least one label.

    Args:
        ids: (n,) int64, ascending.
        vectors: (n, d) float32 unit vectors.
        codes: n arrays of label codes.
    """
    rows = np.arange(len(ids))
    lists = label_unions(codes)
    return Problem(
        anchors=vectors,
        anchor_ids=ids,
        self_rows=rows,
        gallery=vectors,
        gallery_ids=ids,
        positives=lists,
        exclusions=lists,
    )


def by_pairs(
    queries: Float32,
    query_ids: Int64,
    corpus: Float32,
    corpus_ids: Int64,
    positives: Mapping[int, Sequence[int]],
) -> Problem:
    """A problem of queries against a separate corpus.

    Args:
        queries: (q, d) float32 unit vectors.
        query_ids: (q,) int64.
        corpus: (n, d) float32 unit vectors.
        corpus_ids: (n,) int64, ascending.
        positives: Query id to the corpus ids that answer it.

    Raises:
        InputError: A query or a positive does not exist.
    """
    if unknown_queries := set(positives) - set(query_ids.tolist()):
        raise InputError(f"positives name query {min(unknown_queries)}, which does not exist")
    rows_of = {int(item): row for row, item in enumerate(corpus_ids.tolist())}
    anchors: list[int] = []
    rows: list[int] = []
    for anchor, query in enumerate(query_ids.tolist()):
        for item in positives.get(query, ()):
            if item not in rows_of:
                raise InputError(f"query {query}: its positive {item} is not in the corpus")
            anchors.append(anchor)
            rows.append(rows_of[item])
    lists = RowUnions.single(
        RowLists.of(np.array(anchors, np.intp), np.array(rows, np.intp), len(query_ids))
    )
    return Problem(
        anchors=queries,
        anchor_ids=query_ids,
        self_rows=np.full(len(query_ids), -1),
        gallery=corpus,
        gallery_ids=corpus_ids,
        positives=lists,
        exclusions=lists,
    )
