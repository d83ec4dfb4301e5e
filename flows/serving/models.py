"""What goes in and out over HTTP, typed; the OpenAPI document is made from these."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from remine.data.types import KINDS

MAX_ID = 2**63 - 1
Id = Annotated[int, Field(ge=0, le=MAX_ID)]
Name = Annotated[str, Field(max_length=1_000)]
Split = Literal["train", "val", "test"]
Kind = Literal["hard", "semi_hard", "easy"]
Vector = Annotated[list[float], Field(min_length=1, max_length=65_536)]
Recall = Annotated[float | None, Field(gt=0, le=1)]

assert KINDS == ("hard", "semi_hard", "easy")


class Body(BaseModel):
    """Something sent: no unknown fields, no NaN, no texts for numbers."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)


class Wanted(Body):
    """How to answer."""

    k: Annotated[int, Field(ge=1, le=9_999)] = 10
    recall: Recall = Field(default=None, description="Wished share of the exact nearest.")
    labels: Annotated[list[Name], Field(max_length=100)] = []
    splits: Annotated[list[Split], Field(max_length=3)] = []
    groups: Annotated[list[Name], Field(max_length=100)] = []
    distinct: bool = Field(default=False, description="Leave out exact duplicates.")
    explain: bool = Field(default=False, description="Say what was searched.")


class SearchBody(Wanted):
    """One question: exactly one of id, text and vector."""

    id: Id | None = None
    text: Annotated[str | None, Field(min_length=1, max_length=100_000)] = None
    vector: Vector | None = None
    itself: bool = Field(default=False, description="Keep an item among its own neighbours.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(part is not None for part in (self.id, self.text, self.vector)) != 1:
            raise ValueError("give exactly one of id, text and vector")
        return self


class BatchBody(Wanted):
    """Many questions of one kind: exactly one of ids, texts and vectors."""

    ids: Annotated[list[Id], Field(min_length=1, max_length=100_000)] | None = None
    texts: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=100_000)]],
            Field(min_length=1, max_length=100_000),
        ]
        | None
    ) = None
    vectors: Annotated[list[Vector], Field(min_length=1, max_length=100_000)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(part is not None for part in (self.ids, self.texts, self.vectors)) != 1:
            raise ValueError("give exactly one of ids, texts and vectors")
        return self


class Fault(BaseModel):
    """Why there is no answer, and which fields are wrong."""

    detail: str
    fields: list[str]


class OfVersion(BaseModel):
    """An answer from one version alone: its number, and the hash of its index."""

    version: int
    index: str


class Item(BaseModel):
    """Who an item is."""

    id: int
    label: str
    split: Split
    group: str | None
    text: str | None = Field(default=None, description="Where the items are texts.")
    thumbnail: str | None = Field(default=None, description="Where the items are pictures.")


class Neighbour(Item):
    """An item and its squared Euclidean distance to the query, 0 to 4."""

    rank: int
    distance: float


class Explained(BaseModel):
    """What a search looked at; see `remine search --explain`."""

    factory: str
    knob: str
    setting: int
    wished: float
    measured: float | None
    visited: float | None
    kept: int
    items: int
    widened: int


class SearchAnswer(OfVersion):
    """Neighbours, nearest first."""

    query: Item | None = None
    neighbours: list[Neighbour]
    explain: Explained | None = None


class BatchAnswer(OfVersion):
    """Per query the ids and the squared distances of its neighbours, nearest first."""

    ids: list[list[int]]
    distances: list[list[float]]
    explain: Explained | None = None


class ItemAnswer(OfVersion):
    """One item, and how often it is anchor, positive and negative in the last round mined."""

    item: Item
    roles: dict[str, int] | None = None


class ItemsAnswer(OfVersion):
    """A page of items in order of id (or at random), of `total` that fit."""

    total: int
    items: list[Item]


class Label(BaseModel):
    """A class and how many items it has."""

    label: str
    items: int


class LabelsAnswer(OfVersion):
    """A page of classes, of `total` that fit."""

    total: int
    labels: list[Label]


class Triplet(BaseModel):
    """A mined triplet and its three labels."""

    anchor_id: int
    positive_id: int
    negative_id: int
    d_ap: float
    d_an: float
    kind: Kind
    negative_rank: int
    anchor_label: str | None
    positive_label: str | None
    negative_label: str | None


class TripletsAnswer(OfVersion):
    """A page of triplets of a round, of `total` that fit."""

    round: int
    total: int
    triplets: list[Triplet]


class RoundRow(BaseModel):
    """A round: retrieval before it, what it mined, how it trained."""

    round: int
    metrics: dict[str, float | None] | None
    mined: dict[str, int] | None = Field(description="Triplets by kind, and in all.")
    margin: float | None = Field(default=None, description="What semi-hard was bounded by.")
    training: dict[str, float | None] | None


class RoundsAnswer(OfVersion):
    """All rounds of the served cycle."""

    cycle: int
    finished: bool
    rounds: list[RoundRow]


class Measure(BaseModel):
    """A measure over a kind's triplets."""

    mean: float | None
    min: float | None
    max: float | None
    p5: float | None = None
    p50: float | None = None
    p95: float | None = None


class KindStats(BaseModel):
    """The triplets of a kind."""

    rows: int
    share: float
    d_ap: Measure
    d_an: Measure
    margin: Measure
    negative_rank: Measure


class Hub(BaseModel):
    """An item that often serves as negative."""

    id: int
    label: str
    count: int
    anchors: int


class Confused(BaseModel):
    """Two classes that triplets hold apart."""

    label: str
    negative_label: str
    count: int


class HistogramModel(BaseModel):
    """Counts by kind between edges (one more than counts)."""

    edges: list[float]
    counts: dict[str, list[int]]


class RoundAnswer(OfVersion):
    """What a round mined, in numbers."""

    round: int
    rows: int
    anchors: int
    negatives: int
    kinds: dict[str, KindStats]
    hubs: list[Hub]
    confused: list[Confused]
    histograms: dict[str, HistogramModel]


class PairsModel(BaseModel):
    """(anchor, positive) pairs of two rounds, and the mean changes over those of both."""

    first: int
    second: int
    both: int
    d_ap_change: float | None
    d_an_change: float | None


class ComparedKind(BaseModel):
    """Triplets of a kind in two rounds, and those of the second that the first has too."""

    first: int
    second: int
    same_triplet: int


class CompareAnswer(OfVersion):
    """What changed from one round to another."""

    first: int
    second: int
    pairs: PairsModel
    kinds: dict[str, ComparedKind]
    means: dict[str, list[float | None]]


class MapAnswer(OfVersion):
    """A sample of items in the plane of the embedding's two widest directions, -1 to 1."""

    ids: list[int]
    x: list[float]
    y: list[float]
    label: list[int] = Field(description="Places in `labels`.")
    labels: list[str]
    split: list[Split]
    explained: float = Field(description="Share of the variance that the plane shows.")


class VersionRow(BaseModel):
    """A published version."""

    version: int
    cycle: int
    round: int
    rounds: int
    factory: str
    items: int
    recall: float
    bytes: int
    checkpoint: str


class VersionsAnswer(BaseModel):
    """Published versions, newest first; which is served, and which is pinned (0: none)."""

    served: int
    pinned: int
    versions: list[VersionRow]


class CurvePoint(BaseModel):
    """Recall at one setting of the index."""

    setting: int
    recall_1: float
    recall_10: float
    recall_100: float
    visited: float | None


class IndexAnswer(OfVersion):
    """The served index: what it is, how exact it answers, what made it."""

    factory: str
    reason: str
    items: int
    dimensions: int
    content: str
    bytes: int
    knob: str
    setting: int
    wished: float
    recall: float
    held_out: int
    curve: list[CurvePoint]
    checkpoint: str
    embeddings: str
    cycle: int
    round: int


class Suspect(BaseModel):
    """An item whose label is probably wrong, or that lies under two labels.

    score: how much nearer (squared distance) the suspected class's centroid is. other, distance:
    of twins.
    """

    item: Item
    suspected_label: str
    reason: Literal["mislabelled", "same_content", "twin"]
    score: float | None
    other: Item | None
    distance: float | None


class SuspectsAnswer(OfVersion):
    """A page of suspects, of `total` that fit; none while they are looked for."""

    state: Literal["working", "done"]
    done: int = Field(description="Items looked at.")
    items: int
    total: int
    counts: dict[str, int] = Field(description="By reason, of those that fit.")
    suspects: list[Suspect]


class Health(BaseModel):
    """ok, or degraded where a newer version could not be opened."""

    status: Literal["ok", "degraded"]
    version: int
    detail: str = ""
