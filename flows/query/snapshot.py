"""One version opened for questions.

Its model, index and items belong together for as long as somebody holds it, whatever is published
meanwhile.
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from remine.data.errors import InputError, StoreError
from remine.data.items.catalogue import Catalogue, read_catalogue
from remine.data.items.inputs import ImageTransform, Inputs, Transform
from remine.data.items.lookup import PICTURES, ContentCodes, Texts
from remine.data.store.records import Version
from remine.data.store.store import Store
from remine.data.types import SPLITS, Float32, Int32, Int64
from remine.flows.stages.encoder import device, load_checkpoint
from remine.index.build import IndexCard
from remine.index.search import MAX_K, Mask, Searched, Searcher
from remine.train.encoders.design import Design, transform_of
from remine.train.encoders.encoder import Encoder, text_transform

BATCH = 256


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which items may be found: of any of these labels, splits and groups; empty for all."""

    labels: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Wish:
    """How to answer: k neighbours, with what recall (None: the index's own), among which items.

    distinct: leave out items whose content is that of the query or of a nearer one.
    """

    k: int = 10
    recall: float | None = None
    among: Filter = Filter()
    distinct: bool = False
    explain: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.k < MAX_K:
            raise InputError(f"k is {self.k}; it must be 1 to {MAX_K - 1}")
        if self.recall is not None and not 0 < self.recall <= 1:
            raise InputError(f"recall is {self.recall}; it must be above 0 and at most 1")


@dataclass(frozen=True, kw_only=True)
class Queries:
    """What is asked: vectors (q, d) of length 1.

    without: (q,) the id to leave out of each answer, -1 for none. rows: (q,) the places of items
    that are themselves the queries, or None. raw: the q contents that were embedded, or None.
    """

    vectors: Float32
    without: Int64
    rows: Int64 | None = None
    raw: Sequence[bytes | str] | None = None

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The neighbours of q queries.

    rows: (q, k) int64 places in the order of ids, -1 where there are fewer. distances: (q, k)
    float32 squared distances, ascending, inf where rows are -1.
    """

    rows: Int64
    distances: Float32
    told: Searched


class Snapshot:
    """A version's model, index and items. What is loaded is kept; threads may share it."""

    def __init__(self, store: Store, version: Version, base: Path = Path()) -> None:
        """Open `version`; each file is verified before its first use.

        base: the folder of the config, where an encoder of the user's own lies.
        """
        self.store, self.version, self.base = store, version, base
        # No collection takes the files away for as long as this object is there.
        weakref.finalize(self, store.register_reader(version))
        index = version.artifacts["index"]
        if index.card["checkpoint"] != version.artifacts["checkpoint"].digest:
            raise StoreError(f"version {version.number}: the index is of another checkpoint")
        self.items = version.artifacts["items"]
        self.content: str = self.items.card["content"]
        self.searcher = Searcher(store.path(index.files[0]), index_card(version))
        self.known: Catalogue = read_catalogue(store, self.items)
        if not np.array_equal(self.known.ids, self.searcher.ids):
            raise StoreError(f"version {version.number}: the index is of other items")

    @cached_property
    def encoder(self) -> Encoder:
        """The model that made the embeddings."""
        checkpoint = self.version.artifacts["checkpoint"]
        return load_checkpoint(self.store, checkpoint, self.base).to(device())

    @cached_property
    def transform(self) -> Transform:
        """From contents to what the model eats, as when the items were prepared."""
        design = Design.from_json(self.version.artifacts["checkpoint"].card["encoder"])
        if own := transform_of(design.config, self.content, self.base):
            return own
        if self.content not in PICTURES:
            return text_transform
        channels, height, width = self.version.artifacts["inputs"].card["shape"]
        return ImageTransform(max(height, width), channels)

    @cached_property
    def inputs(self) -> Inputs:
        """What the model ate, by row."""
        return Inputs(self.store.paths(self.version.artifacts["inputs"]))

    @cached_property
    def texts(self) -> Texts:
        """The items' texts, by row."""
        return Texts(self.store, self.items)

    @cached_property
    def contents(self) -> ContentCodes:
        """Which items have the same content."""
        return ContentCodes(self.store, self.items)

    # Questions -----------------------------------------------------------------------------

    def by_id(self, ids: Int64, *, itself: bool = False) -> Queries:
        """Items (q,) by id as queries; `itself` keeps each among its own neighbours."""
        rows = self.searcher.rows(ids)
        vectors = self.searcher.vectors(ids)
        if itself:
            return self.by_vector(vectors)
        return Queries(vectors=vectors, without=ids, rows=rows)

    def by_vector(self, vectors: Float32) -> Queries:
        """Vectors (q, d) of length 1 in the space of the embeddings."""
        return Queries(vectors=vectors, without=np.full(len(vectors), -1))

    def by_picture(self, pictures: Sequence[bytes | Path], where: Callable[[int], str]) -> Queries:
        """Pictures as bytes or files, through the model."""
        if self.content not in PICTURES:
            raise InputError(f"{where(0)}: the items are {self.content}, not pictures")
        return self._encoded(self.transform(pictures, where), pictures)

    def by_text(self, texts: Sequence[str], where: Callable[[int], str]) -> Queries:
        """Texts, through the model."""
        if self.content != "text":
            raise InputError(f"{where(0)}: the items are {self.content}, not texts")
        return self._encoded(self.transform(texts, where), texts)

    # Answers -------------------------------------------------------------------------------

    def ask(self, queries: Queries, wish: Wish) -> Answers:
        """The neighbours of each query, as wished."""
        kept = self.kept(wish.among)
        count = len(self.known.ids) if kept is None else int(kept.sum())
        # One more where the item itself is found and left out.
        wanted = min(wish.k + bool((queries.without >= 0).any()), max(1, count))
        own = self._own_contents(queries) if wish.distinct else None
        while True:
            found, told = self.searcher.search(
                queries.vectors, wanted, recall=wish.recall, kept=kept, explain=wish.explain
            )
            rows = np.where(found.ids >= 0, np.searchsorted(self.known.ids, found.ids), -1)
            good = (rows >= 0) & (found.ids != queries.without[:, None])
            if wish.distinct:
                good &= self._first_of_kind(rows, own)
            full = int(good.sum(axis=1).min(initial=wish.k)) >= wish.k
            if full or wanted >= min(count, MAX_K):
                break
            wanted = min(2 * wanted, count, MAX_K)  # what was left out makes room for more
        return _packed(rows, found.distances, good, wish.k, told)

    def kept(self, among: Filter) -> Mask | None:
        """(n,) whether each item may be found; None for all."""
        masks = []
        if among.labels:
            codes = [self._label(label) for label in among.labels]
            masks.append(np.isin(self.known.label_codes, codes))
        if among.splits:
            if unknown := sorted(set(among.splits) - set(SPLITS)):
                raise InputError(f"no split {unknown[0]!r}; known: {', '.join(SPLITS)}")
            masks.append(np.isin(self.known.splits, [SPLITS.index(s) for s in among.splits]))
        if among.groups:
            if unknown := sorted(set(among.groups) - self._group_names):
                raise InputError(f"no group {unknown[0]!r} among the items")
            inside = pc.is_in(self.known.groups, pa.array(list(among.groups), pa.string()))
            masks.append(inside.to_numpy())
        return np.logical_and.reduce(masks) if masks else None

    def label_of(self, row: int) -> str:
        """The label of the item at `row`."""
        return str(self.known.labels[self.known.label_codes[row]])

    def group_of(self, row: int) -> str | None:
        """The group of the item at `row`."""
        groups = self.known.groups
        return None if groups is None else groups[int(row)].as_py()

    @cached_property
    def _codes_by_label(self) -> dict[str, int]:
        return {label: code for code, label in enumerate(self.known.labels)}

    @cached_property
    def _group_names(self) -> set[str]:
        groups = self.known.groups
        return set() if groups is None else set(pc.unique(groups).to_pylist())

    def _label(self, label: str) -> int:
        if label not in self._codes_by_label:
            raise InputError(f"no label {label!r} among the items")
        return self._codes_by_label[label]

    def _encoded(self, inputs: np.ndarray, contents: Sequence[bytes | str | Path]) -> Queries:
        parts = []
        with torch.inference_mode():
            for start in range(0, len(inputs), BATCH):
                block = torch.from_numpy(inputs[start : start + BATCH]).to(device())
                parts.append(self.encoder(block).cpu().numpy())
        raw = [c.read_bytes() if isinstance(c, Path) else c for c in contents]
        return Queries(vectors=np.concatenate(parts), without=np.full(len(raw), -1), raw=raw)

    def _own_contents(self, queries: Queries) -> Int32 | None:
        """(q,) the code of each query's own content, -1 where no item has it."""
        if queries.rows is not None:
            return self.contents.codes[queries.rows]
        return None if queries.raw is None else self.contents.codes_of(queries.raw)

    def _first_of_kind(self, rows: Int64, own: Int32 | None) -> Mask:
        """(q, k) whether no nearer item, nor the query itself, has the same content."""
        codes = np.where(rows >= 0, self.contents.codes[rows], -1)
        first = np.zeros(rows.shape, bool)
        for row, found in enumerate(codes):
            first[row, np.unique(found, return_index=True)[1]] = True
        if own is not None:
            first &= (codes != own[:, None]) | (own[:, None] < 0)
        return first


def index_card(version: Version) -> IndexCard:
    """The card of a version's index; refuses one without a measured curve."""
    card = version.artifacts["index"].card
    if "curve" not in card:
        raise StoreError(
            f"version {version.number}: its index was built by an older remine and has no measured"
            " curve; `remine run` publishes one that has"
        )
    return IndexCard.from_json(card)


def _packed(rows: Int64, distances: Float32, good: Mask, k: int, told: Searched) -> Answers:
    """The first k good ones of each query, moved to the front."""
    order = np.argsort(~good, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(good, order, axis=1)
    near = np.where(kept, np.take_along_axis(distances, order, axis=1), np.inf)
    places = np.where(kept, np.take_along_axis(rows, order, axis=1), -1)
    if places.shape[1] < k:
        wide = ((0, 0), (0, k - places.shape[1]))
        places = np.pad(places, wide, constant_values=-1)
        near = np.pad(near, wide, constant_values=np.inf)
    return Answers(rows=places, distances=near.astype(np.float32), told=told)
