"""Mining: choose an engine, mine blocks of anchors as a Beam job, cap the hubs."""

import io
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from remine.data import schemas
from remine.data.errors import InputError
from remine.data.items.catalogue import Catalogue, has_keys, read_catalogue
from remine.data.sources.vectors import read_id_pairs
from remine.data.store.records import Artifact, digest
from remine.data.types import SPLITS, Embeddings, Float32, Int64, Triplets
from remine.flows.jobs.job import Unit, run_job, units_of
from remine.flows.jobs.stage_code import code_hash
from remine.flows.stages.shard import put_table
from remine.mining.config import MiningConfig
from remine.mining.engines.engine_choice import choose_engine, unit_anchors
from remine.mining.engines.engines import EngineSetup, open_engine, prepare
from remine.mining.kernel_cache import COMPILING, must_compile
from remine.mining.miner import PhaseTimer, mine_block, mine_shards, sort_by_anchor
from remine.mining.problem import Problem, by_label
from remine.mining.stats import MiningStats
from remine.mining.strategies.hub_cap import cap_hubs
from remine.mining.strategies.positive_duplicates import bar_duplicates, items_named

if TYPE_CHECKING:
    from remine.data.store.store import Store
    from remine.flows.jobs.run_context import Run

TRAIN = SPLITS.index("train")


def mine(run: "Run", embeddings: Artifact, items: Artifact, seed: int) -> Artifact:
    """Mine triplets over the whole training split, as a Beam job over blocks of anchors.

    Args:
        run: Settings, store, the way to run units.
        embeddings: The items' vectors.
        items: Ids, labels, splits.
        seed: Decides random choices.

    Returns:
        The triplets, one shard for each block, and the account of how they were mined.

    """
    config = run.config.mining
    anchors = items.card["splits"]["train"]["items"]
    same_as = _put_same_as(run, items)
    if must_compile():
        run.console.say(f"{run.console.round:<9} {'mine':<9} {COMPILING}")
    with run.console.stage("mine", "anchors") as bar:
        setup = engine_setup(run, embeddings, items, seed)
        job = MineJob(
            embeddings=embeddings,
            items=items,
            config=config,
            seed=seed,
            setup=setup,
            same_as=same_as,
        )
        shards = run_job(
            run.store,
            job,
            units_of(anchors, unit_anchors(setup.card["engine"], config)),
            run.execute,
            bar.update,
        )
        stats = sum((MiningStats(**shard.card["stats"]) for shard in shards), MiningStats())
        if config.hub_cap:
            shards, stats = _cap(run.store, shards, stats, config, seed)
    if line := stats.copies_line():
        run.console.say(line)
    card = {
        **stats.to_json(),
        **setup.card,
        "embeddings": embeddings.digest,
        "settings": job.settings(),
    }
    files = tuple(file for shard in shards for file in shard.files)
    return Artifact(kind="triplets", files=files, card=card)


def engine_setup(run: "Run", embeddings: Artifact, items: Artifact, seed: int) -> Artifact:
    """Choose the engine for these embeddings and measure its recall, once for all workers."""
    config, same_as = run.config.mining, _put_same_as(run, items)
    sources = [embeddings.digest, items.digest, same_as and same_as.digest]
    key = digest(["decide", sources, asdict(config), seed, code_hash(__name__)])
    if artifact := run.store.recall(key):
        return artifact
    n = items.card["splits"]["train"]["items"]
    choice = choose_engine(n, schemas.dimensions(run.store.path(embeddings.files[0])), config)
    if choice.engine == "exact":
        setup = EngineSetup(engine="exact", reason=choice.reason)
    else:
        with items_named(_id_of(run.store, items)):
            setup, _ = prepare(read_problem(run.store, embeddings, items, same_as), config, seed)
    body = json.dumps(setup.to_json(), sort_keys=True).encode()
    files = [run.store.put_bytes(body, name="setup.json")]
    if setup.centroids is not None:
        files.append(run.store.put_bytes(_npy(setup.centroids), name="centroids.npy"))
    card = {**setup.to_json(), "shards": choice.shards}
    return run.store.remember(key, Artifact(kind="engine", files=tuple(files), card=card))


@dataclass(frozen=True, kw_only=True)
class MineJob:
    """Mines one block of anchors a unit, against the whole training split.

    Attributes:
        setup: The engine, see `engine_setup`.
        same_as: One .npy of id pairs that are never negatives of one another, or None.

    """

    embeddings: Artifact
    items: Artifact
    config: MiningConfig
    seed: int
    setup: Artifact
    same_as: Artifact | None

    def settings(self) -> dict[str, Any]:
        """What the triplets depend on, beside the embeddings."""
        same_as = self.same_as.digest if self.same_as else ""
        return {**asdict(self.config), "same_as": same_as, "seed": self.seed}

    def key(self, unit: Unit) -> str:
        """Hash of all embeddings (any item may be a negative), the settings, the unit, the code."""
        sources = [self.embeddings.digest, self.items.digest, self.setup.digest]
        return digest(["mine", sources, self.settings(), unit, code_hash(__name__)])

    def open(self, store: "Store") -> Callable[[Unit], Artifact]:
        """Load or map the training split's embeddings and open the engine."""
        if self.setup.card["shards"] > 1:
            return self._open_shards(store)
        problem = read_problem(store, self.embeddings, self.items, self.same_as)
        with items_named(_id_of(store, self.items)):
            problem = bar_duplicates(problem, self.config)
        engine = open_engine(problem, read_setup(store, self.setup))

        def work(unit: Unit) -> Artifact:
            _, start, stop = unit
            phases = PhaseTimer()
            triplets, stats = mine_block(engine, slice(start, stop), self.config, self.seed, phases)
            store.log("mined", unit=list(unit), seconds=phases.rounded())
            return self._put(store, unit, sort_by_anchor(triplets), stats)

        return work

    def _open_shards(self, store: "Store") -> Callable[[Unit], Artifact]:
        """The gallery stays in a file, and every unit searches it part by part."""
        problem = read_problem(store, self.embeddings, self.items, self.same_as, in_file=True)
        with items_named(_id_of(store, self.items)):
            problem = bar_duplicates(problem, self.config)
        size = -(-len(problem.gallery) // int(self.setup.card["shards"]))

        def work(unit: Unit) -> Artifact:
            _, start, stop = unit
            parts = (
                (first, np.array(problem.gallery[first : first + size]))
                for first in range(0, len(problem.gallery), size)
            )
            block = problem.block(slice(start, stop))
            triplets, stats = mine_shards(block, parts, self.config, self.seed)
            return self._put(store, unit, triplets, stats)

        return work

    def _put(self, store: "Store", unit: Unit, triplets: Any, stats: MiningStats) -> Artifact:
        note = {"embeddings": self.embeddings.digest, "settings": self.settings()}
        table = schemas.triplets_table(triplets)
        shard = put_table(store, table, "triplets", unit[0], note)
        return Artifact(kind="triplets", files=shard.files, card={"stats": asdict(stats)})


def read_problem(
    store: "Store",
    embeddings: Artifact,
    items: Artifact,
    same_as: Artifact | None,
    *,
    in_file: bool = False,
) -> Problem:
    """Pose the problem: every training item is an anchor, against all of them.

    in_file: leave the vectors in a temporary file, of which only the pages in use are in memory.
    """
    catalogue = read_catalogue(store, items)
    in_train = catalogue.splits == TRAIN
    if in_file:
        vectors = _vectors_in_file(store, embeddings, in_train)
        gallery = Embeddings(
            ids=catalogue.ids[in_train],
            label_codes=catalogue.label_codes[in_train],
            vectors=vectors,
        )
    else:
        gallery = schemas.read_embeddings(store.paths(embeddings)).take(in_train)
    problem = by_label(gallery)
    if same_as:
        problem = problem.forbid(np.load(store.path(same_as.files[0]), allow_pickle=False))
    return problem


def _id_of(store: "Store", items: Artifact) -> Callable[[int], int | str]:
    """From an item's number to the user's id, for messages."""

    def id_of(number: int) -> int | str:
        catalogue = read_catalogue(store, items)
        return catalogue.id_at(int(np.searchsorted(catalogue.ids, number)))

    return id_of


def read_setup(store: "Store", setup: Artifact) -> EngineSetup:
    """Load the setup of an engine."""
    body = json.loads(store.path(setup.files[0]).read_bytes())
    body["recall"] = None  # already in the card; workers do not need it
    centroids = None
    if len(setup.files) > 1:
        centroids = np.load(store.path(setup.files[1]), allow_pickle=False)
    body["levels"] = tuple(tuple(level) for level in body["levels"])
    return EngineSetup(**body, centroids=centroids)


def _put_same_as(run: "Run", items: Artifact) -> Artifact | None:
    """Put the pairs that mining.same_as names into the store, since workers read nothing else."""
    if not run.config.mining.same_as:
        return None
    path, columns = run.config.base / run.config.mining.same_as, ("a", "b")
    if has_keys(items):
        pairs = _numbered_pairs(path, columns, read_catalogue(run.store, items))
    else:
        pairs = read_id_pairs(path, columns)
    file = run.store.put_bytes(_npy(pairs), name="same_as.npy", rows=len(pairs))
    return Artifact(kind="same_as", files=(file,))


def _numbered_pairs(path: Path, columns: tuple[str, str], catalogue: Catalogue) -> Int64:
    """Pairs of text ids (p, 2) in a file as the numbers of training items."""
    rows = read_id_pairs(path, columns, (catalogue.keys, catalogue.keys))
    in_train = catalogue.splits[rows] == TRAIN
    if not in_train.all():
        item = catalogue.id_at(int(rows[~in_train][0]))
        raise InputError(f"{path}: {item!r} is no training item")
    pairs: Int64 = catalogue.ids[rows]
    return pairs


def _cap(
    store: "Store", shards: list[Artifact], stats: MiningStats, config: MiningConfig, seed: int
) -> tuple[list[Artifact], MiningStats]:
    """The shards without the triplets over mining.hub_cap, rewritten one at a time."""

    def read() -> Iterator[Triplets]:
        return (_triplets(store, shard) for shard in shards)

    shards_under_cap, remaining = [], 0
    for number, triplets in enumerate(cap_hubs(read, config.hub_cap, seed)):
        remaining += len(triplets)
        note = schemas.check(store.path(shards[number].files[0]), schema="triplets/1")
        table = schemas.triplets_table(triplets)
        shards_under_cap.append(put_table(store, table, "triplets", number, note))
    return shards_under_cap, stats.after_cap(remaining)


def _triplets(store: "Store", shard: Artifact) -> Triplets:
    return schemas.triplets_from(schemas.read(store.paths(shard), schema="triplets/1"))


def _vectors_in_file(store: "Store", embeddings: Artifact, mask: NDArray[np.bool_]) -> Float32:
    """The vectors (n, d) of the rows of a mask, in an unnamed temporary file, shard by shard."""
    d = schemas.dimensions(store.path(embeddings.files[0]))
    with tempfile.TemporaryFile(dir=store.root / "tmp") as file:
        start = 0
        for path in store.paths(embeddings):
            part = schemas.read_embeddings([path]).vectors
            file.write(part[mask[start : start + len(part)]].tobytes())
            start += len(part)
        file.flush()
        return np.memmap(file, np.float32, "c", shape=(int(mask.sum()), d))


def _npy(array: np.ndarray) -> bytes:
    body = io.BytesIO()
    np.save(body, array)
    return body.getvalue()
