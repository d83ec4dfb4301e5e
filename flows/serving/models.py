"""Request and response bodies of the HTTP API; the OpenAPI document is made from them.

Distances are squared Euclidean on unit vectors, 0 to 4.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from remine.data.types import Kind, Split
from remine.index.recall import RecallPoint
from remine.index.search_report import SearchReport

MAX_ID = 2**63 - 1
MAX_ID_LENGTH = 10_000
Number = Annotated[int, Field(ge=0, le=MAX_ID)]
Key = Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH)]
Id = Number | Key
"""An id of the user's: a text if the ids of the data are texts."""
Name = Annotated[str, Field(max_length=1_000)]
Text = Annotated[str, Field(min_length=1, max_length=100_000)]
Vector = Annotated[list[float], Field(min_length=1, max_length=65_536)]
Recall = Annotated[float | None, Field(gt=0, le=1)]


class Record(BaseModel):
    """A JSON object whose fields are documented by the text below each."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Body(Record):
    """A request body: no unknown fields, no NaN, no numbers written as texts."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)


class AnswerOptions(Body):
    """How many neighbours to return, and among which items."""

    k: Annotated[int, Field(ge=1, le=9_999)] = 10
    """Neighbours per query."""
    recall: Recall = None
    """Share of the exact k nearest to find; the served index's own by default."""
    labels: Annotated[list[Name], Field(max_length=100)] = []
    """Only items of these classes; empty for all."""
    splits: Annotated[list[Split], Field(max_length=4)] = []
    """Only items of these splits; empty for all but unknown."""
    groups: Annotated[list[Name], Field(max_length=100)] = []
    """Only items of these groups; empty for all."""
    distinct: bool = False
    """Leave out exact duplicates."""
    reject: Annotated[float | None, Field(gt=0, lt=1)] = None
    """Rate of false alarms: mark queries as unknown whose nearest item is farther than that of all
    but this share of the val items.
    """
    explain: bool = False
    """Report what was searched."""


class SearchBody(AnswerOptions):
    """One query: exactly one of id, text and vector."""

    id: Id | None = None
    """An item of the served version."""
    text: Text | None = None
    """A text, for the encoder."""
    vector: Vector | None = None
    """A vector of the index's dimensions; it is scaled to length 1."""
    itself: bool = False
    """Keep an item among its own neighbours."""

    @model_validator(mode="after")
    def _has_one_query(self) -> Self:
        if sum(query is not None for query in (self.id, self.text, self.vector)) != 1:
            raise ValueError("give exactly one of id, text and vector")
        return self


class BatchBody(AnswerOptions):
    """Many queries of one kind: exactly one of ids, texts and vectors."""

    ids: (
        Annotated[list[Number], Field(min_length=1, max_length=100_000)]
        | Annotated[list[Key], Field(min_length=1, max_length=100_000)]
        | None
    ) = None
    """Items of the served version."""
    texts: Annotated[list[Text], Field(min_length=1, max_length=100_000)] | None = None
    """Texts, for the encoder."""
    vectors: Annotated[list[Vector], Field(min_length=1, max_length=100_000)] | None = None
    """Vectors of the index's dimensions; they are scaled to length 1."""

    @model_validator(mode="after")
    def _has_one_kind(self) -> Self:
        if sum(queries is not None for queries in (self.ids, self.texts, self.vectors)) != 1:
            raise ValueError("give exactly one of ids, texts and vectors")
        return self


class Fault(Record):
    """Why a request was refused or failed."""

    detail: str
    """The reason, in one line."""
    fields: list[str]
    """Names of the wrong fields or parameters."""


class VersionedAnswer(Record):
    """An answer that comes from one published version alone."""

    version: int
    """Number of the version."""
    index: str
    """SHA-256 hash of the version's index."""


class Item(Record):
    """An item without its content."""

    id: int | str
    """The item's id in the data: a whole number or a text."""
    label: str
    """Its class."""
    split: Split
    """Its split."""
    group: str | None
    """Its group, if the data has groups."""
    text: str | None = None
    """The text, if the items are texts."""
    path: str | None = None
    """Where the picture is, relative to the source's folder, if the source named files."""
    thumbnail: str | None = None
    """Relative URL of a thumbnail, if the items are pictures."""
    extra: dict[str, str | int | float | bool | None] = {}
    """The columns of the data that data.extra_columns names."""


class Neighbour(Item):
    """An item found by a search."""

    rank: int
    """1 for the nearest."""
    distance: float
    """Squared Euclidean distance to the query, 0 to 4."""


class NeighbourAnswer(VersionedAnswer):
    """Neighbours, and what the encoder did not read of the queries."""

    left_out: list[str] = []
    """Lines that count texts that were cut, and the like; empty if all was read."""
    limit: float | None = None
    """The squared distance of the nearest item beyond which a query is unknown, if the request has
    `reject`.
    """


class SearchAnswer(NeighbourAnswer):
    """The neighbours of one query."""

    query: Item | None = None
    """The query, if it is an item."""
    neighbours: list[Neighbour]
    """Nearest first; fewer than k if the filters leave fewer items."""
    unknown: bool | None = None
    """Whether the nearest item is beyond the limit, or there is none; null without `reject`."""
    explain: SearchReport | None = None
    """What was searched, if the request asks for it."""


class BatchAnswer(NeighbourAnswer):
    """The neighbours of many queries, in the order of the request."""

    ids: list[list[int]] | list[list[str]]
    """Per query the ids of its neighbours, nearest first."""
    distances: list[list[float]]
    """Per query the squared Euclidean distances of its neighbours, 0 to 4."""
    unknown: list[bool] | None = None
    """Per query whether it is unknown; null without `reject`."""
    explain: SearchReport | None = None
    """What was searched, if the request asks for it."""


class ItemAnswer(VersionedAnswer):
    """One item and its roles in the last mined round."""

    item: Item
    """The item."""
    roles: dict[str, int] | None = None
    """Triplets in which it is the anchor, the positive and the negative; null without triplets."""


class ItemsAnswer(VersionedAnswer):
    """A page of items, in order of id or at random."""

    total: int
    """Items that match, on all pages."""
    items: list[Item]
    """The items of this page."""


class Label(Record):
    """A class."""

    label: str
    """Its name."""
    items: int
    """Its number of items."""


class LabelsAnswer(VersionedAnswer):
    """A page of classes."""

    total: int
    """Classes that match, on all pages."""
    labels: list[Label]
    """The classes of this page."""


class Triplet(Record):
    """A mined triplet with the labels of its items."""

    anchor_id: int | str
    """Id of the anchor."""
    positive_id: int | str
    """Id of the positive."""
    negative_id: int | str
    """Id of the negative."""
    d_ap: float
    """Squared Euclidean distance from the anchor to the positive, 0 to 4."""
    d_an: float
    """Squared Euclidean distance from the anchor to the negative, 0 to 4."""
    kind: Kind
    """hard: d_an <= d_ap. semi_hard: d_ap < d_an < d_ap + margin. easy: the others."""
    negative_rank: int
    """Negatives that are nearer to the anchor; -1 for random negatives."""
    anchor_label: str | None
    """Class of the anchor."""
    positive_label: str | None
    """Class of the positive."""
    negative_label: str | None
    """Class of the negative."""


class TripletsAnswer(VersionedAnswer):
    """A page of the triplets of a round."""

    round: int
    """The round."""
    total: int
    """Triplets that match, on all pages."""
    triplets: list[Triplet]
    """The triplets of this page."""


class RoundRow(Record):
    """A round: retrieval before it, what it mined, how it trained."""

    round: int
    """Number of the round, from 0 on."""
    metrics: dict[str, float | None] | None
    """Retrieval among the test items before the round, by metric."""
    val: dict[str, float | None] | None
    """Retrieval among the val items before the round, by which the served round is chosen."""
    mined: dict[str, int] | None
    """Mined triplets by kind, and in all."""
    margin: float | None = None
    """Width of the semi-hard window, in squared Euclidean distance."""
    training: dict[str, float | None] | None
    """Figures of the training, such as its loss."""


class RoundsAnswer(VersionedAnswer):
    """All rounds of the served cycle."""

    cycle: int
    """Number of the cycle."""
    finished: bool
    """Whether the cycle has ended."""
    served_round: int
    """The round that is served: the best on val, if nothing else was asked for."""
    rounds: list[RoundRow]
    """The rounds, in order."""


class Measure(Record):
    """The distribution of a measure over the triplets of a kind."""

    mean: float | None
    """Mean."""
    min: float | None
    """Smallest value."""
    max: float | None
    """Largest value."""
    p5: float | None = None
    """5th percentile."""
    p50: float | None = None
    """Median."""
    p95: float | None = None
    """95th percentile."""


class KindStats(Record):
    """The triplets of a kind."""

    rows: int
    """Number of triplets."""
    share: float
    """Share of the round's triplets, 0 to 1."""
    d_ap: Measure
    """Squared Euclidean distance from the anchor to the positive, 0 to 4."""
    d_an: Measure
    """Squared Euclidean distance from the anchor to the negative, 0 to 4."""
    margin: Measure
    """d_an - d_ap."""
    negative_rank: Measure
    """Negatives that are nearer to the anchor."""


class Hub(Record):
    """An item that is often a negative."""

    id: int | str
    """The item's id."""
    label: str
    """Its class."""
    count: int
    """Triplets in which it is the negative."""
    anchors: int
    """Different anchors of these triplets."""


class ConfusedClasses(Record):
    """Two classes that triplets separate."""

    label: str
    """Class of the anchor."""
    negative_label: str
    """Class of the negative."""
    count: int
    """Number of triplets."""


class Histogram(Record):
    """A histogram by kind."""

    edges: list[float]
    """Edges of the bins, one more than there are bins."""
    counts: dict[str, list[int]]
    """Triplets per bin, by kind."""


class RoundAnswer(VersionedAnswer):
    """Statistics of what a round mined."""

    round: int
    """Number of the round."""
    rows: int
    """Number of triplets."""
    anchors: int
    """Number of different anchors."""
    negatives: int
    """Number of different negatives."""
    kinds: dict[str, KindStats]
    """The triplets by kind."""
    hubs: list[Hub]
    """The 20 items that are negatives most often."""
    confused: list[ConfusedClasses]
    """The 20 pairs of classes with most triplets."""
    histograms: dict[str, Histogram]
    """Histograms of d_ap, d_an and the margin d_an - d_ap."""


class PairChanges(Record):
    """The (anchor, positive) pairs of two rounds."""

    first: int
    """Pairs of the first round."""
    second: int
    """Pairs of the second round."""
    both: int
    """Pairs that both rounds have."""
    d_ap_change: float | None
    """Mean change of d_ap over the pairs of both rounds."""
    d_an_change: float | None
    """Mean change of d_an over the pairs of both rounds."""


class KindChanges(Record):
    """The triplets of a kind in two rounds."""

    first: int
    """Triplets of the first round."""
    second: int
    """Triplets of the second round."""
    same_triplet: int
    """Triplets of the second round that the first has too."""


class CompareAnswer(VersionedAnswer):
    """What changed from one round to another."""

    first: int
    """Number of the first round."""
    second: int
    """Number of the second round."""
    pairs: PairChanges
    """The (anchor, positive) pairs."""
    kinds: dict[str, KindChanges]
    """The triplets by kind."""
    means: dict[str, list[float | None]]
    """By measure its mean in the first and in the second round."""


class MapAnswer(VersionedAnswer):
    """A random sample of items in the plane of the embedding's two widest directions."""

    ids: list[int] | list[str]
    """Ids of the items."""
    x: list[float]
    """Position along the widest direction, -1 to 1."""
    y: list[float]
    """Position along the second direction, -1 to 1."""
    label: list[int]
    """Position of each item's class in `labels`."""
    labels: list[str]
    """The classes of the sample."""
    split: list[Split]
    """Split of each item."""
    explained: float
    """Share of the variance that the plane shows, 0 to 1."""


class VersionRow(Record):
    """A published version."""

    version: int
    """Its number."""
    cycle: int
    """Number of its cycle."""
    round: int
    """Rounds of the cycle that are done."""
    rounds: int
    """Rounds of the cycle."""
    factory: str
    """FAISS factory string of its index."""
    items: int
    """Items in its index."""
    recall: float
    """Measured recall of the 10 nearest, at the setting that is served."""
    bytes: int
    """Size of the index file."""
    checkpoint: str
    """Hash of the checkpoint that embedded the items."""


class VersionsAnswer(Record):
    """Published versions."""

    served: int
    """Number of the served version."""
    pinned: int
    """Number of the pinned version; 0 if none is."""
    versions: list[VersionRow]
    """The versions, newest first."""


class IndexAnswer(VersionedAnswer):
    """The served index: what it is, how exact its answers are, what it was made from."""

    factory: str
    """FAISS factory string."""
    reason: str
    """Why this factory."""
    items: int
    """Items in the index."""
    dimensions: int
    """Dimensions of a vector."""
    content: str
    """What the items are, such as image or text."""
    ids: Literal["integers", "texts"]
    """What the ids of the items are."""
    bytes: int
    """Size of the index file."""
    knob: str
    """The search parameter that trades recall for time: nprobe, efSearch or none."""
    setting: int
    """Its value: the smallest that reaches the wished recall, or the best."""
    wished: float
    """Recall of the 10 nearest that was asked for."""
    recall: float
    """Recall of the 10 nearest measured at `setting`, for queries like the items."""
    distance_limit: float | None
    """Squared distance from the index within which 99 % of the held-out items lie: queries beyond
    it are unlike the items, and their recall may be lower. None if not measured."""
    held_out: int
    """Items that were the queries of the measurement."""
    curve: list[RecallPoint]
    """Measured recall by value of the knob, for queries like the items."""
    checkpoint: str
    """Hash of the checkpoint that embedded the items."""
    embeddings: str
    """Hash of the embeddings."""
    cycle: int
    """Number of the cycle."""
    round: int
    """Number of the round."""


class Suspect(Record):
    """An item whose label is probably wrong, or that exists under two labels."""

    item: Item
    """The item."""
    suspected_label: str
    """The class it probably belongs to."""
    reason: Literal["mislabelled", "same_content", "twin"]
    """mislabelled: nearer to another class's centroid. same_content: the same content under another
    label. twin: nearly the same vector as an item of another label.
    """
    score: float | None
    """How much nearer the suspected class's centroid is, in squared Euclidean distance."""
    other: Item | None
    """The other item, for same_content and twin."""
    distance: float | None
    """Squared Euclidean distance to the other item."""


class Judge(Record):
    """The embeddings that judged the labels."""

    name: Literal["served", "start"]
    """start: those of the encoder before training."""
    version: int
    """The version that has them; 0 if the items were embedded again."""
    reason: str
    """Why these."""


class SuspectsAnswer(VersionedAnswer):
    """A page of suspects; empty while they are searched."""

    state: Literal["working", "done"]
    """Whether the search is still running."""
    done: int
    """Items searched so far."""
    items: int
    """Items to search."""
    total: int
    """Suspects that match, on all pages."""
    judge: Judge | None = None
    """Which embeddings judged the labels; null while they are searched."""
    counts: dict[str, int]
    """Suspects that match, by reason."""
    suspects: list[Suspect]
    """The suspects of this page, the most suspicious first."""


class Health(Record):
    """State of the server."""

    status: Literal["ok", "degraded"]
    """degraded if a newer version could not be opened."""
    version: int
    """Number of the served version."""
    detail: str = ""
    """What is wrong."""
