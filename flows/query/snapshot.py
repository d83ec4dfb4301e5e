"""A published version opened for searches.

Its index, encoder and items stay those of one version even if others are published meanwhile.
"""

import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from remine.data.errors import InputError, StoreError
from remine.data.items.catalogue import UNKNOWN, Catalogue, read_catalogue
from remine.data.items.inputs import (
    PICTURES,
    ImageTransform,
    Inputs,
    Omissions,
    Transform,
    transform_counted,
)
from remine.data.items.lookup import ContentCodes, Texts
from remine.data.sources.labels import clean_label
from remine.data.store.records import Version
from remine.data.store.store import Store
from remine.data.types import SPLITS, Float32, Int32, Int64
from remine.flows.query.item_contents import ItemContents
from remine.flows.stages.encoder import device, load_checkpoint
from remine.index.build import IndexCard
from remine.index.embed import embed_rows
from remine.index.search import MAX_K, Mask, Searcher
from remine.index.search_report import SearchReport
from remine.train.encoders.design import Design, input_transform
from remine.train.encoders.encoder import Encoder

BATCH = 256

ITEM_NAMES = {"image": "pictures", "path": "pictures", "text": "texts", "vector": "vectors"}
"""What items are called in messages, by their content."""


@dataclass(frozen=True, kw_only=True)
class Filter:
    """The items that a search may return: any of these labels, splits and groups; empty for all.

    Items of the split unknown are returned only if it is named.
    """

    labels: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How to search.

    Attributes:
        k: Number of neighbours per query, 1 to MAX_K - 1.
        recall: Target share of the exact k nearest, above 0 and at most 1; None for the target that
            the index was built for.
        item_filter: The items that may be returned.
        distinct: Leave out items with the content of the query or of a nearer neighbour.
        explain: Count the vectors that were compared.

    Raises:
        InputError: If k or recall is out of range.
    """

    k: int = 10
    recall: float | None = None
    item_filter: Filter = Filter()
    distinct: bool = False
    explain: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.k < MAX_K:
            raise InputError(f"k is {self.k}; it must be 1 to {MAX_K - 1}")
        if self.recall is not None and not 0 < self.recall <= 1:
            raise InputError(f"recall is {self.recall}; it must be above 0 and at most 1")


@dataclass(frozen=True, kw_only=True)
class Queries:
    """Queries as vectors in the space of the embeddings.

    Attributes:
        vectors: (q, d) float32 vectors of length 1.
        excluded_ids: (q,) int64 id to leave out of each answer, -1 for none.
        rows: (q,) int64 rows of the items that are the queries, or None.
        raw_contents: The q contents that were embedded, or None.
        omissions: What the encoder does not read of them, as of texts that are too long.
    """

    vectors: Float32
    excluded_ids: Int64
    rows: Int64 | None = None
    raw_contents: Sequence[bytes | str] | None = None
    omissions: Omissions = field(default_factory=Omissions)

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The neighbours of q queries.

    Attributes:
        rows: (q, k) int64 rows in the order of ids, -1 where there are fewer than k neighbours.
        distances: (q, k) float32 squared distances, ascending, inf where rows are -1.
        explanation: How the index was searched.
    """

    rows: Int64
    distances: Float32
    explanation: SearchReport

    def unknown(self, limit: float) -> Mask:
        """(q,) bool: whether the nearest item is farther than `limit`, or there is none."""
        is_farther: Mask = self.distances[:, 0] > limit
        return is_farther


class Snapshot:
    """A version's index, encoder and items, each loaded at its first use; thread-safe."""

    def __init__(self, store: Store, version: Version, base: Path = Path()) -> None:
        """Open `version`; every file is verified before its first use.

        Args:
            store: The store that holds the version.
            version: The version to open.
            base: Folder of the configuration file, where a user-defined encoder is looked up.

        Raises:
            StoreError: If the index belongs to another checkpoint or to other items.
        """
        self.store, self.version, self.base = store, version, base
        self._transform_lock = threading.Lock()
        # Garbage collection keeps the version's files until this object is gone.
        weakref.finalize(self, store.register_reader(version))
        index = version.artifacts["index"]
        if index.card["checkpoint"] != version.artifacts["checkpoint"].digest:
            raise StoreError(f"version {version.number}: the index is of another checkpoint")
        self.items = version.artifacts["items"]
        self.content: str = self.items.card["content"]
        self.searcher = Searcher(store.path(index.files[0]), index_card(version))
        self.catalogue: Catalogue = read_catalogue(store, self.items)
        if not np.array_equal(self.catalogue.ids, self.searcher.ids):
            raise StoreError(f"version {version.number}: the index is of other items")

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder that made the embeddings."""
        checkpoint = self.version.artifacts["checkpoint"]
        return load_checkpoint(self.store, checkpoint, self.base).to(device())

    @cached_property
    def transform(self) -> Transform:
        """The transform of contents to encoder inputs with which the items were prepared."""
        design = Design.from_json(self.version.artifacts["checkpoint"].card["encoder"])
        card = self.version.artifacts["inputs"].card
        shape = card["shape"]
        # A transform of the user's own may make rows of any shape, and gets the pictures whole.
        if self.content in PICTURES and len(shape) == 3:
            fit = card.get("fit", "crop")  # stores of earlier versions know no other
            pictures = ImageTransform.for_shape(shape, resize=True, fit=fit)
        else:
            pictures = ImageTransform()
        return input_transform(design.config, self.content, self.base, pictures)

    @cached_property
    def inputs(self) -> Inputs:
        """The items' encoder inputs, by row."""
        return Inputs(self.store.paths(self.version.artifacts["inputs"]))

    @cached_property
    def texts(self) -> Texts:
        """The items' texts, by row."""
        return Texts(self.store, self.items)

    @cached_property
    def item_contents(self) -> ItemContents:
        """The items' texts, or the paths of their pictures, by row."""
        return ItemContents(self.store, self.items)

    @cached_property
    def contents(self) -> ContentCodes:
        """Codes that are equal for items with equal content."""
        return ContentCodes(self.store, self.items)

    # Queries -------------------------------------------------------------------------------

    def numbers(self, ids: Sequence[int | str] | np.ndarray) -> Int64:
        """The numbers (q,) of the items with these ids, which are the user's.

        Raises:
            InputError: An id is not in the index.
        """
        rows = self.catalogue.rows_of_ids(ids)
        if (unknown := rows < 0).any():
            value = pa.array(ids)[int(unknown.argmax())].as_py()
            raise InputError(f"no item {value!r} in the index")
        numbers: Int64 = self.catalogue.ids[rows]
        return numbers

    def item_queries(self, ids: Int64, *, itself: bool = False) -> Queries:
        """Use the items with these numbers (q,) as queries.

        Args:
            ids: (q,) int64 numbers of items, which are their ids if these are integers.
            itself: Keep each item among its own neighbours.

        Raises:
            InputError: If an id is not in the index.
        """
        rows = self.searcher.rows(ids)
        vectors = self.searcher.vectors(ids)
        if itself:
            return self.vector_queries(vectors)
        return Queries(vectors=vectors, excluded_ids=ids, rows=rows)

    def vector_queries(self, vectors: Float32) -> Queries:
        """Use vectors (q, d) of length 1 in the space of the embeddings as queries."""
        return Queries(vectors=vectors, excluded_ids=np.full(len(vectors), -1))

    def picture_queries(
        self, pictures: Sequence[bytes | Path], locate: Callable[[int], str]
    ) -> Queries:
        """Embed pictures.

        Args:
            pictures: Encoded pictures, or paths to picture files.
            locate: Maps the position of a picture to its place for error messages.

        Raises:
            InputError: If the items are not pictures, or a picture cannot be read.
        """
        if self.content not in PICTURES:
            raise InputError(f"{locate(0)}: the items are {ITEM_NAMES[self.content]}, not pictures")
        return self._embed(pictures, locate)

    def text_queries(self, texts: Sequence[str], locate: Callable[[int], str]) -> Queries:
        """Embed texts.

        Args:
            texts: The texts.
            locate: Maps the position of a text to its place for error messages.

        Raises:
            InputError: If the items are not texts.
        """
        if self.content != "text":
            raise InputError(f"{locate(0)}: the items are {ITEM_NAMES[self.content]}, not texts")
        return self._embed(texts, locate)

    # Answers -------------------------------------------------------------------------------

    def search(self, queries: Queries, options: SearchOptions) -> Answers:
        """Return the nearest items of each query.

        Raises:
            InputError: If the filter names an unknown label, split or group.
        """
        mask = self.filter_mask(options.item_filter)
        count = len(self.catalogue.ids) if mask is None else int(mask.sum())
        # One more than k, since an item finds itself and is then left out.
        width = min(options.k + bool((queries.excluded_ids >= 0).any()), max(1, count))
        query_contents = self._query_contents(queries) if options.distinct else None
        while True:
            neighbours, explanation = self.searcher.search(
                queries.vectors, width, recall=options.recall, mask=mask, explain=options.explain
            )
            ids = neighbours.ids
            # The catalogue and the index have the same ids in ascending order (see __init__).
            rows = np.where(ids >= 0, np.searchsorted(self.catalogue.ids, ids), -1)
            valid = (rows >= 0) & (ids != queries.excluded_ids[:, None])
            if options.distinct:
                valid &= self._is_first_of_content(rows, query_contents)
            shortest = int(valid.sum(axis=1).min(initial=options.k))
            if shortest >= options.k or width >= min(count, MAX_K):
                break
            # Exclusions took places: a wider search fills them.
            width = min(2 * width, count, MAX_K)
        return _pack(rows, neighbours.distances, valid, options.k, explanation)

    def filter_mask(self, item_filter: Filter) -> Mask | None:
        """(n,) bool mask of the items that pass the filter, in order of id; None for all.

        Raises:
            InputError: If the filter names an unknown label, split or group.
        """
        catalogue, masks = self.catalogue, []
        if item_filter.labels:
            codes = [self._label_code(label) for label in item_filter.labels]
            masks.append(np.isin(catalogue.label_codes, codes))
        if not item_filter.splits and self._is_known is not None:
            masks.append(self._is_known)
        if item_filter.splits:
            if unknown := sorted(set(item_filter.splits) - set(SPLITS)):
                raise InputError(f"no split {unknown[0]!r}; known: {', '.join(SPLITS)}")
            split_codes = [SPLITS.index(split) for split in item_filter.splits]
            masks.append(np.isin(catalogue.splits, split_codes))
        if item_filter.groups:
            if unknown := sorted(set(item_filter.groups) - self._group_names):
                raise InputError(f"no group {unknown[0]!r} among the items")
            names = pa.array(list(item_filter.groups), pa.string())
            masks.append(pc.is_in(catalogue.groups, names).to_numpy())
        return np.logical_and.reduce(masks) if masks else None

    @cached_property
    def _is_known(self) -> Mask | None:
        """(n,) bool, whether an item is not of the split unknown; None if all are."""
        mask: Mask = self.catalogue.splits != UNKNOWN
        return None if mask.all() else mask

    def label_of(self, row: int) -> str:
        """The label of the item at `row`."""
        return str(self.catalogue.labels[self.catalogue.label_codes[row]])

    def group_of(self, row: int) -> str | None:
        """The group of the item at `row`, or None."""
        groups = self.catalogue.groups
        return None if groups is None else groups[int(row)].as_py()

    @cached_property
    def _codes_by_label(self) -> dict[str, int]:
        return {label: code for code, label in enumerate(self.catalogue.labels)}

    @cached_property
    def _group_names(self) -> set[str]:
        groups = self.catalogue.groups
        return set() if groups is None else set(pc.unique(groups).to_pylist())

    def _label_code(self, label: str) -> int:
        # Stores of earlier versions may hold labels that are not in the form compared today.
        for name in (label, clean_label(label)):
            if name in self._codes_by_label:
                return self._codes_by_label[name]
        raise InputError(f"no label {label!r} among the items")

    def _embed(
        self, contents: Sequence[bytes | str | Path], locate: Callable[[int], str]
    ) -> Queries:
        with self._transform_lock:  # the counts of a transform are those of one call at a time
            inputs, omissions = transform_counted(self.transform, contents, locate)
        vectors = embed_rows(self.encoder, inputs, range(len(inputs)), BATCH, device())
        raw = [c.read_bytes() if isinstance(c, Path) else c for c in contents]
        return Queries(
            vectors=vectors,
            excluded_ids=np.full(len(raw), -1),
            raw_contents=raw,
            omissions=omissions,
        )

    def _query_contents(self, queries: Queries) -> Int32 | None:
        """(q,) content code of each query, -1 for a content that no item has."""
        if queries.rows is not None:
            return self.contents.codes[queries.rows]
        return (
            None if queries.raw_contents is None else self.contents.codes_of(queries.raw_contents)
        )

    def _is_first_of_content(self, rows: Int64, query_contents: Int32 | None) -> Mask:
        """(q, k) bool, whether neither a nearer item nor the query has the same content."""
        # Rows are in order of distance: the first occurrence of a code is the nearest one.
        codes = np.where(rows >= 0, self.contents.codes[rows], -1)
        first = np.zeros(rows.shape, bool)
        for query, query_codes in enumerate(codes):
            first[query, np.unique(query_codes, return_index=True)[1]] = True
        if query_contents is not None:
            first &= (codes != query_contents[:, None]) | (query_contents[:, None] < 0)
        return first


def index_card(version: Version) -> IndexCard:
    """The card of a version's index.

    Raises:
        StoreError: If the index has no measured recall curve.
    """
    card = version.artifacts["index"].card
    if "curve" not in card:
        raise StoreError(
            f"version {version.number}: its index was built by an older remine and has no measured"
            " curve; `remine run` publishes one that has"
        )
    return IndexCard.from_json(card)


def _pack(
    rows: Int64, distances: Float32, valid: Mask, k: int, explanation: SearchReport
) -> Answers:
    """Move the first k valid neighbours of each query to the front, padded with -1 and inf."""
    # A stable sort by validity keeps the order of distances.
    order = np.argsort(~valid, axis=1, kind="stable")[:, :k]
    valid = np.take_along_axis(valid, order, axis=1)
    rows = np.where(valid, np.take_along_axis(rows, order, axis=1), -1)
    distances = np.where(valid, np.take_along_axis(distances, order, axis=1), np.inf)
    if rows.shape[1] < k:
        padding = ((0, 0), (0, k - rows.shape[1]))
        rows = np.pad(rows, padding, constant_values=-1)
        distances = np.pad(distances, padding, constant_values=np.inf)
    return Answers(rows=rows, distances=distances.astype(np.float32), explanation=explanation)
