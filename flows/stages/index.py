"""The index stage: the last version's index with its items brought up to date, or a whole build.

Only where the vectors of unchanged items are the same bits, so within one model: after training
every vector is another, and the index is built anew.
"""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from remine.data import schemas
from remine.data.errors import StoreError
from remine.data.store.records import Artifact, Version, digest
from remine.data.types import Embeddings, Int64
from remine.flows.jobs.stage_code import code_hash
from remine.index.build import IndexCard, build_index
from remine.index.recall import RecallPoint
from remine.index.update import (
    RECALL_LIMIT,
    SHARE_LIMIT,
    can_follow,
    differences,
    recall_drop,
    same_kind,
    update_index,
)

if TYPE_CHECKING:
    from remine.data.store.store import Store
    from remine.flows.jobs.run import Run


def build(run: "Run", embeddings: Artifact, base: Version | None = None) -> Artifact:
    """The FAISS index of all items. base: a version whose index may be brought up to date."""
    config = run.config.index
    recipe = digest([config.factory, config.recall, config.memory, code_hash(__name__)])
    if base and not _serves(base, embeddings, recipe):
        base = None
    if base and _unchanged(run.store, base, embeddings):
        return base.artifacts["index"]
    given = [embeddings.digest, recipe, *_digests(base)]
    key = digest(["build", given])
    if found := run.store.recall(key):
        return found
    with run.console.stage("index", "items") as bar:
        from remine.data.faiss_library import faiss

        start = time.monotonic()
        vectors = schemas.read_embeddings(run.store.paths(embeddings))
        index, card, note = _made(run, base, embeddings, vectors)
        with run.store.temporary() as temp:
            try:
                faiss.write_index(index, str(temp))
            except RuntimeError:  # FAISS says a page about a full disk
                raise StoreError(
                    f"{temp}: the index cannot be written whole; see that the disk has room, then"
                    " run the same command again: it resumes"
                ) from None
            file = run.store.put(temp, name="index.faiss", rows=len(vectors))
        bar.update(len(vectors), len(vectors))
        bar.partial = "update" in note
    # Seconds differ from run to run: they go to the log, not into what is hashed.
    seconds = round(time.monotonic() - start, 3)
    run.store.log("index", sha256=file.sha256, seconds=seconds, whole="update" not in note)
    note |= {"embeddings": embeddings.digest, "checkpoint": embeddings.card["checkpoint"]}
    whole = {**card.to_json(), **note, "bytes": file.bytes, "recipe": recipe}
    return run.store.remember(key, Artifact(kind="index", files=(file,), card=whole))


def _digests(base: Version | None) -> list[str]:
    return [base.artifacts[name].digest for name in ("index", "embeddings")] if base else []


def _serves(base: Version, embeddings: Artifact, recipe: str) -> bool:
    """Whether the index of `base` is of this model and these settings."""
    index, old = base.artifacts["index"].card, base.artifacts["embeddings"].card
    same = old.get("recipe") == embeddings.card.get("recipe") is not None
    return same and index.get("recipe") == recipe


def _unchanged(store: "Store", base: Version, embeddings: Artifact) -> bool:
    """Whether the index of `base` is sound and of these very embeddings."""
    if base.artifacts["embeddings"].digest != embeddings.digest:
        return False
    try:
        store.paths(base.artifacts["index"])
    except StoreError:
        return False
    return True


def _made(
    run: "Run", base: Version | None, embeddings: Artifact, vectors: Embeddings
) -> tuple[Any, IndexCard, dict[str, Any]]:
    """The index, its card, and what else the card says: {"update": ...} or {"rebuilt": why}."""
    why: dict[str, Any] = {}
    if base:
        made = Following(run=run, base=base, embeddings=embeddings, vectors=vectors).made()
        if not isinstance(made, str):
            return made
        run.console.say(f"index: built anew: {made}")
        why = {"rebuilt": made}
    return *build_index(vectors, run.config.index), why


@dataclass(frozen=True, kw_only=True)
class Following:
    """The index of `base` to be brought to `vectors`."""

    run: "Run"
    base: Version
    embeddings: Artifact
    vectors: Embeddings

    def made(self) -> tuple[Any, IndexCard, dict[str, Any]] | str:
        """The index brought up to date, its card and a note; or why it must be built anew."""
        from remine.data.faiss_library import faiss

        old, store = self.base.artifacts["index"], self.run.store
        card, (n, d) = IndexCard.from_json(old.card), self.vectors.vectors.shape
        if not same_kind(card.factory, n, d, self.run.config.index):
            return f"{n:,} items ask for another kind than {card.factory}"
        try:
            leave, come = self._differences()
            path = store.path(old.files[0])
        except StoreError as error:
            return str(error)
        update = self._update(old, len(leave), len(come))
        share = update["moved"] / n
        if share > SHARE_LIMIT:
            return f"{share:.0%} of the items moved since the last whole build"
        index = faiss.read_index(str(path))
        if not can_follow(index):
            return f"{card.factory} cannot give up single items"
        now = update_index(index, card, self.vectors, leave, come)
        built = tuple(RecallPoint(**point) for point in update["built"]["curve"])
        fall = recall_drop(built, update["built"]["setting"], now.curve)
        if fall > RECALL_LIMIT:
            return f"its recall fell by {fall:.4f} since the last whole build"
        self.run.console.say(f"index: {len(come):,} added, {len(leave):,} removed")
        return index, now, {"update": {**update, "fall": round(fall, 6)}}

    def _differences(self) -> tuple[Int64, Int64]:
        """Ids that leave and that come; shards that are the same file are not looked into."""
        before, after = (one.files for one in (self.base.artifacts["embeddings"], self.embeddings))
        both = {file.sha256 for file in before} & {file.sha256 for file in after}
        moved = np.repeat([f.sha256 not in both for f in after], [f.rows for f in after])
        shards = (
            schemas.read_embeddings([self.run.store.path(file)])
            for file in before
            if file.sha256 not in both
        )
        return differences(shards, self.vectors, moved)

    def _update(self, old: Artifact, removed: int, added: int) -> dict[str, Any]:
        """What the card says: base and since are numbers of versions; moved since the build."""
        last = old.card.get("update")
        built = {"curve": old.card["curve"], "setting": old.card["setting"]}
        return {
            "base": self.base.number,
            "base_index": old.digest,
            "added": added,
            "removed": removed,
            "since": last["since"] if last else self.base.number,
            "moved": (last["moved"] if last else 0) + added + removed,
            "built": last["built"] if last else built,
        }
