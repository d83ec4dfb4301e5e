"""`remine.open`: one version of a store, opened for questions."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from remine.data import schemas
from remine.data.errors import InputError
from remine.data.items.catalogue import Catalogue, read_catalogue
from remine.data.items.inputs import vector_transform
from remine.data.store.history import history
from remine.data.store.pins import cycle_record, served_version
from remine.data.store.records import Version
from remine.data.store.store import Store
from remine.data.types import SPLITS, Float32, Int64, unit
from remine.flows.query.triplet_export import with_user_ids
from remine.flows.query.triplets import TripletQuery, TripletTable
from remine.flows.report.rounds_table import round_rows

if TYPE_CHECKING:
    from remine.flows.api.ready_encoder import Content, ReadyEncoder
    from remine.flows.query.snapshot import Queries, Snapshot


@dataclass(frozen=True, kw_only=True)
class ItemEmbeddings:
    """The embeddings of all items, in order of id.

    Attributes:
        ids: Ids (n,), int64; an array of objects if ids are texts.
        labels: Labels (n,), text.
        splits: "train", "val", "test" or "unknown" (n,), text.
        vectors: Unit vectors (n, d), float32.

    """

    ids: Int64 | NDArray[np.object_]
    labels: NDArray[np.object_]
    splits: NDArray[np.object_]
    vectors: Float32


class StoreVersion:
    """One published version of a store. What it loads is verified by its hash, and kept.

    Its files stay for as long as the object lives, whatever cycles and `remine gc` do meanwhile.

    Attributes:
        store: The store.
        version: The record of the version: number, cycle, round, artifacts.

    """

    def __init__(self, store: Store, version: Version, encoder_folder: Path) -> None:
        """Open a version; see `open_store`."""
        self.store, self.version = store, version
        self.cycle = cycle_record(store, version)
        self._encoder_folder = encoder_folder
        self._holds = [store.register_reader(one) for one in (version, self.cycle)]

    def __repr__(self) -> str:
        v = self.version
        return f"<version {v.number} of {self.store.address}: cycle {v.cycle}, round {v.round}>"

    @property
    def number(self) -> int:
        """The version's number."""
        return self.version.number

    def search(
        self,
        *,
        id: int | str | Sequence[int | str] | None = None,  # noqa: A002 - what the columns call it
        image: "Content | Sequence[Content] | None" = None,
        text: str | Sequence[str] | None = None,
        vector: ArrayLike | None = None,
        k: int = 10,
        labels: Sequence[str] = (),
        splits: Sequence[str] = (),
        groups: Sequence[str] = (),
        recall: float | None = None,
        distinct: bool = False,
        reject: float | None = None,
    ) -> pa.Table:
        """Find the nearest items of one query or of several of one kind.

        Args:
            id: Ids of items of the store; an item is not its own neighbour.
            image: Pictures: encoded bytes, paths, or Pillow images; the encoder embeds them.
            text: Texts; the encoder embeds them.
            vector: Vectors (d,) or (q, d) in the space of the embeddings, of any length.
            k: Neighbours per query.
            labels: Only items of these labels; empty for all.
            splits: Only items of these splits, of "train", "val", "test" and
                "unknown"; empty for all but unknown.
            groups: Only items of these groups.
            recall: Share of the exact k nearest to aim at; None for what the index was built for.
            distinct: Leave out items with the content of the query or of a nearer neighbour.
            reject: Rate of false alarms, such as 0.05: mark queries as unknown whose nearest item
                is farther than that of all but this share of the val items.

        Returns:
            A row for each neighbour, nearest first: query (int64), rank (from 1), id, distance
            (squared Euclidean, 0 to 4), label, split, group, text or path if the items are texts or
            files of pictures, and the columns of data.extra_columns. Ids are int64, or strings if
            those of the data are texts. With reject a column unknown (bool), the same in all rows
            of a query.

        Warns:
            UserWarning: More than 5 % of the queries are unlike the items, so that the index's
                measured recall does not hold for them; or a query was cut, as a text that is
                longer than the encoder reads.

        Raises:
            InputError: Not exactly one kind of query is given, or it does not fit the store; or
                the version has no limit for this rate.

        """
        from remine.flows.query.answers import neighbour_table
        from remine.flows.query.rejection import Rejection
        from remine.flows.query.snapshot import Filter, SearchOptions

        item_filter = Filter(labels=tuple(labels), splits=tuple(splits), groups=tuple(groups))
        options = SearchOptions(k=k, recall=recall, item_filter=item_filter, distinct=distinct)
        rejection = None if reject is None else Rejection.of(self.version, reject)
        queries = self._queries(id=id, image=image, text=text, vector=vector)
        answers = self._snapshot.search(queries, options)
        for notice in [*answers.explanation.notices(), *queries.omissions.lines()]:
            warnings.warn(notice, stacklevel=2)
        return neighbour_table(self._snapshot, answers, rejection=rejection)

    def _queries(self, **kinds: Any) -> "Queries":
        """The one kind of query that is not None, as vectors."""
        queries = {name: value for name, value in kinds.items() if value is not None}
        if len(queries) != 1:
            raise InputError(f"give exactly one of {', '.join(kinds)} (got {len(queries)})")
        ((kind, value),) = queries.items()
        snapshot = self._snapshot
        if kind == "id":
            return snapshot.item_queries(snapshot.numbers(_ids(value)))
        if kind == "vector":
            vectors: Any = np.atleast_2d(_numbers("vector", value, "fiu"))
            vectors = vector_transform(vectors, lambda row: f"vector {row}")
            return snapshot.vector_queries(unit(vectors))
        several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        contents = list(value) if several else [value]
        if kind == "text":
            return snapshot.text_queries(contents, lambda row: f"text {row}")
        from remine.flows.api.ready_encoder import encoded

        pictures = [encoded(content, "image") for content in contents]
        return snapshot.picture_queries(pictures, lambda row: f"image {row}")

    def triplets(self, round: int = -1, kind: str | Sequence[str] = ()) -> pa.Table:  # noqa: A002
        """The triplets that a round mined, as an Arrow table; `.to_pandas()` makes a data frame.

        Args:
            round: Number of the round; -1 for the last one that mined.
            kind: Only "hard", "semi_hard" or "easy" ones, or several of them.

        Returns:
            anchor_id, positive_id, negative_id, d_ap, d_an, kind, negative_rank, in the order of
            the anchors. Ids are int64, or strings if those of the data are texts.

        Raises:
            InputError: The version has no triplets, no such round, or there is no such kind.

        """
        kinds = (kind,) if isinstance(kind, str) else tuple(kind)
        table = TripletTable(self.store, self.cycle)
        sql, values = table.selection(TripletQuery(round=round, kinds=kinds))
        rows = table.cursor().sql(sql, params=values).to_arrow_table()
        return with_user_ids(self._catalogue, rows)

    def embeddings(self) -> ItemEmbeddings:
        """The embeddings of all items, with their labels and splits."""
        artifact = self.version.artifacts["embeddings"]
        embeddings = schemas.read_embeddings(self.store.paths(artifact))
        return ItemEmbeddings(
            ids=self._user_ids(),
            labels=np.asarray(self._catalogue.labels, object)[self._catalogue.label_codes],
            splits=np.asarray(SPLITS, object)[self._catalogue.splits],
            vectors=embeddings.vectors,
        )

    def encoder(self) -> "ReadyEncoder":
        """The encoder of this version as a torch module with its transform, ready for new data."""
        from remine.flows.api.ready_encoder import ReadyEncoder

        return ReadyEncoder(
            self._snapshot.encoder, self._snapshot.transform, self._snapshot.content
        )

    def rounds(self) -> pa.Table:
        """The cycle round by round: retrieval, what was mined, how it was trained."""
        return pa.Table.from_pylist(round_rows(self.cycle))

    def history(self) -> pa.Table:
        """All versions of the store, newest first: number, cycle, round, time, recall@1, bytes."""
        return pa.Table.from_pylist([asdict(row) for row in history(self.store)])

    def _user_ids(self) -> Int64 | NDArray[np.object_]:
        """The ids of all items (n,), as they are in the data."""
        catalogue = self._catalogue
        return catalogue.ids if catalogue.keys is None else catalogue.keys.texts.to_numpy(False)

    @cached_property
    def _catalogue(self) -> Catalogue:
        return read_catalogue(self.store, self.version.artifacts["items"])

    @cached_property
    def _snapshot(self) -> "Snapshot":
        from remine.flows.query.snapshot import Snapshot

        return Snapshot(self.store, self.version, self._encoder_folder)


def _ids(value: Any) -> np.ndarray | Sequence[int | str]:
    """Ids of items: several texts, or an array of whole numbers."""
    if isinstance(value, str):
        return [value]
    several = value if isinstance(value, Sequence) else np.atleast_1d(np.asarray(value)).tolist()
    if len(several) and all(isinstance(one, str) for one in several):
        return list(several)
    return _numbers("id", value, "iu")


def _numbers(name: str, value: Any, kinds: str) -> np.ndarray:
    """An array of at least one dimension and of one of these numpy kinds."""
    array = np.atleast_1d(np.asarray(value))
    if array.dtype.kind not in kinds:
        what = "whole numbers" if kinds == "iu" else "numbers"
        raise InputError(f"{name} is {value!r}; give {what}")
    return array


def open_store(
    store: str | Path, version: int = 0, encoder_folder: str | Path = "."
) -> StoreVersion:
    """Open a version of a store; cheap, since everything is loaded when it is asked for.

    Args:
        store: The store's folder, or s3://bucket/prefix.
        version: Number of a published version; 0 for the served one, which is the newest unless
            another is pinned.
        encoder_folder: Folder of the user's own encoder modules, if the store's encoder is one.

    Raises:
        InputError: There is no such store or version.
        StoreError: A file is damaged.

    Example:
        >>> import remine
        >>> version = remine.open("runs/products")
        >>> version.search(id=3, k=2).column_names
        ['query', 'rank', 'id', 'distance', 'label', 'split', 'group']
        >>> version.embeddings().vectors.shape
        (72, 8)
        >>> set(version.triplets(kind="hard")["kind"].to_pylist())
        {'hard'}
        >>> version.encoder().encode(version.embeddings().vectors[:2]).shape
        (2, 8)

    """
    if not isinstance(store, str | Path) or isinstance(version, bool | str | float):
        raise InputError("store is a path or an URL, and version a whole number")
    opened_store = Store(store if isinstance(store, str) and "://" in store else Path(store))
    record = opened_store.version(version) if version else served_version(opened_store)
    if record is None:
        raise InputError(f"{opened_store.address} has no published version yet")
    return StoreVersion(opened_store, record, Path(encoder_folder))
