"""The index stage: the last version's index brought up to date, or a full build.

An index is only brought up to date within one model, where the vectors of unchanged items are the
same bits. After training all vectors differ, and the index is built anew.
"""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from remine.data import schemas
from remine.data.errors import StoreError
from remine.data.faiss_library import faiss
from remine.data.store.records import Artifact, FileRef, Version, digest
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
    from remine.flows.jobs.run_context import Run


def build(run: "Run", embeddings: Artifact, base: Version | None = None) -> Artifact:
    """Build the FAISS index of all items.

    Args:
        run: Settings, store, console.
        embeddings: The items' vectors.
        base: A version whose index may be brought up to date.

    Raises:
        StoreError: The index cannot be written.

    """
    config = run.config.index
    recipe = digest([config.factory, config.recall, config.memory, code_hash(__name__)])
    if base and not _is_same_recipe(base, embeddings, recipe):
        base = None
    if base and _is_unchanged(run.store, base, embeddings):
        return base.artifacts["index"]
    key = digest(["build", [embeddings.digest, recipe, *_digests(base)]])
    if artifact := run.store.recall(key):
        return artifact
    with run.console.stage("index", "items") as bar:
        start = time.monotonic()
        vectors = schemas.read_embeddings(run.store.paths(embeddings))
        index, card, note = _updated_or_built(run, base, embeddings, vectors)
        file = _put_index(run.store, index, len(vectors))
        bar.update(len(vectors), len(vectors))
        bar.partial = "update" in note
    # Seconds differ from run to run: they go to the log, not into what is hashed.
    seconds = round(time.monotonic() - start, 3)
    run.store.log("index", sha256=file.sha256, seconds=seconds, whole="update" not in note)
    note |= {"embeddings": embeddings.digest, "checkpoint": embeddings.card["checkpoint"]}
    full_card = {**card.to_json(), **note, "bytes": file.bytes, "recipe": recipe}
    return run.store.remember(key, Artifact(kind="index", files=(file,), card=full_card))


def _put_index(store: "Store", index: faiss.Index, rows: int) -> FileRef:
    with store.temporary() as path:
        try:
            faiss.write_index(index, str(path))
        except RuntimeError:  # FAISS prints a page about a full disk
            raise StoreError(
                f"{path}: the index cannot be written; make room on the disk, then run the same"
                " command again: it resumes"
            ) from None
        return store.put(path, name="index.faiss", rows=rows)


def _digests(base: Version | None) -> list[str]:
    return [base.artifacts[name].digest for name in ("index", "embeddings")] if base else []


def _is_same_recipe(base: Version, embeddings: Artifact, recipe: str) -> bool:
    """Whether the index of `base` was made of the same model's vectors with the same settings."""
    index, old = base.artifacts["index"].card, base.artifacts["embeddings"].card
    is_same_model = old.get("recipe") == embeddings.card.get("recipe") is not None
    return is_same_model and index.get("recipe") == recipe


def _is_unchanged(store: "Store", base: Version, embeddings: Artifact) -> bool:
    """Whether the index of `base` is undamaged and of these very embeddings."""
    if base.artifacts["embeddings"].digest != embeddings.digest:
        return False
    try:
        store.paths(base.artifacts["index"])
    except StoreError:
        return False
    return True


Outcome = tuple[faiss.Index, IndexCard, dict[str, Any]]
"""The index, its card, and a note for the artifact's card: {"update": ...} or {"rebuilt": why}."""


def _updated_or_built(
    run: "Run", base: Version | None, embeddings: Artifact, vectors: Embeddings
) -> Outcome:
    note: dict[str, Any] = {}
    if base:
        update = _Update(context=run, base=base, embeddings=embeddings, vectors=vectors).run()
        if not isinstance(update, str):
            return update
        run.console.say(f"index: built anew: {update}")
        note = {"rebuilt": update}
    return *build_index(vectors, run.config.index), note


@dataclass(frozen=True, kw_only=True)
class _Update:
    """The index of `base`, to be brought up to date with `vectors`."""

    context: "Run"
    base: Version
    embeddings: Artifact
    vectors: Embeddings

    def run(self) -> Outcome | str:
        """Bring the index up to date; returns a reason if it has to be built anew."""
        old, store = self.base.artifacts["index"], self.context.store
        card, (n, d) = IndexCard.from_json(old.card), self.vectors.vectors.shape
        if not same_kind(card.factory, n, d, self.context.config.index):
            return f"{n:,} items ask for another kind than {card.factory}"
        try:
            removed_ids, added_ids = self._differences()
            path = store.path(old.files[0])
        except StoreError as error:
            return str(error)
        update = self._record(old, len(removed_ids), len(added_ids))
        share = update["moved"] / n
        if share > SHARE_LIMIT:
            return f"{share:.0%} of the items were added or removed since the last full build"
        index = faiss.read_index(str(path))
        if not can_follow(index):
            return f"{card.factory} cannot remove single items"
        new_card = update_index(index, card, self.vectors, removed_ids, added_ids)
        full_build = update["built"]
        curve = tuple(RecallPoint(**point) for point in full_build["curve"])
        fall = recall_drop(curve, full_build["setting"], new_card.curve)
        if fall > RECALL_LIMIT:
            return f"its recall fell by {fall:.4f} since the last full build"
        self.context.console.say(f"index: {len(added_ids):,} added, {len(removed_ids):,} removed")
        return index, new_card, {"update": {**update, "fall": round(fall, 6)}}

    def _differences(self) -> tuple[Int64, Int64]:
        """Ids that are removed and that are added; shards that are the same file are not read."""
        before, after = self.base.artifacts["embeddings"].files, self.embeddings.files
        common = {file.sha256 for file in before} & {file.sha256 for file in after}
        in_new_shard = np.repeat([f.sha256 not in common for f in after], [f.rows for f in after])
        shards = (
            schemas.read_embeddings([self.context.store.path(file)])
            for file in before
            if file.sha256 not in common
        )
        return differences(shards, self.vectors, in_new_shard)

    def _record(self, old: Artifact, n_removed: int, n_added: int) -> dict[str, Any]:
        """For the card: base, since: numbers of versions; moved: items since the full build."""
        last = old.card.get("update")
        build_card = {"curve": old.card["curve"], "setting": old.card["setting"]}
        return {
            "base": self.base.number,
            "base_index": old.digest,
            "added": n_added,
            "removed": n_removed,
            "since": last["since"] if last else self.base.number,
            "moved": (last["moved"] if last else 0) + n_added + n_removed,
            "built": last["built"] if last else build_card,
        }
