"""Questions to the current index."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from data.errors import InputError, StoreError
from data.inputs import ImageTransform, vector_transform
from data.prepare import read_catalogue
from data.sources import load_npy
from data.store import Store, Version
from data.types import SPLITS, Float32, unit
from flows.features import load_checkpoint
from index.search import MAX_K, Searcher
from train.design import Design, transform_of
from train.encoders import text_transform


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is nearest to one thing: exactly one of item, vector, image, text is given."""

    item: int | None = None
    vector: Path | None = None
    image: Path | None = None
    text: str | None = None
    k: int = 10

    def __post_init__(self) -> None:
        given = [self.item, self.vector, self.image, self.text]
        if sum(part is not None for part in given) != 1:
            raise InputError("give exactly one of --id, --vector, --image and --text")
        if self.item is not None and not 0 <= self.item < 2**63:
            raise InputError(f"no item {self.item} in the index: ids are 0 to 2^63 - 1")
        if not 1 <= self.k < MAX_K:
            raise InputError(f"k is {self.k}; it must be 1 to {MAX_K - 1}")


def answer(
    store: Store, version: Version, question: Question, base: Path = Path()
) -> list[list[dict[str, Any]]]:
    """One list of neighbours a query, nearest first, all from one version.

    base: the folder of the config, where an encoder of the user's own lies.
    """
    card = version.artifacts["index"].card
    if card["checkpoint"] != version.artifacts["checkpoint"].digest:
        raise StoreError(f"version {version.number}: the index is of another checkpoint")
    searcher = Searcher(store.path(version.artifacts["index"].files[0]), card["nprobe"])
    queries = _vectors(store, version, searcher, question, base)
    found = searcher.search(queries, question.k + (question.item is not None))
    known = read_catalogue(store, version.artifacts["items"])
    answers = []
    for ids, distances in zip(found.ids, found.distances, strict=True):
        kept = (ids >= 0) & (ids != (-1 if question.item is None else question.item))
        rows = np.searchsorted(known.ids, ids[kept])
        answers.append(
            [
                {
                    "id": int(known.ids[row]),
                    "label": known.labels[known.label_codes[row]],
                    "split": SPLITS[known.splits[row]],
                    "distance": float(distance),
                }
                for row, distance in zip(rows, distances[kept], strict=True)
            ][: question.k]
        )
    return answers


def print_answer(answers: list[list[dict[str, Any]]], *, as_json: bool) -> None:
    """As JSON (one list a query) or as tables."""
    if as_json:
        print(json.dumps(answers))  # noqa: T201
        return
    for neighbours in answers:
        table = Table("rank", "id", "label", "split", "distance")
        for rank, one in enumerate(neighbours, start=1):
            row = (rank, one["id"], one["label"], one["split"], f"{one['distance']:.4f}")
            table.add_row(*map(str, row))
        Console(markup=False).print(table)


def _vectors(
    store: Store, version: Version, searcher: Searcher, question: Question, base: Path
) -> Float32:
    """The queries as (q, d) unit vectors."""
    if question.item is not None:
        return searcher.vectors(np.array([question.item]))
    if question.vector is not None:
        return _load_queries(question.vector)
    inputs = version.artifacts["inputs"].card
    content = version.artifacts["items"].card["content"]
    checkpoint = version.artifacts["checkpoint"]
    own = transform_of(Design.from_json(checkpoint.card["encoder"]).config, content, base)
    if question.image is not None:
        if content not in ("image", "path"):
            raise InputError(f"--image: the items are {content}, not pictures")
        transform = own or _fitting(inputs["shape"])
        block = transform([question.image], lambda _row: str(question.image))
    else:
        if content != "text":
            raise InputError(f"--text: the items are {content}, not texts")
        block = (own or text_transform)([question.text or ""], lambda _row: "--text")
    encoder = load_checkpoint(store, checkpoint, base)
    with torch.inference_mode():
        vectors: Float32 = encoder(torch.from_numpy(block)).numpy()
    return vectors


def _fitting(shape: list[int]) -> ImageTransform:
    """As the items' pictures were fitted."""
    channels, height, width = shape
    return ImageTransform(max(height, width), channels)


def _load_queries(path: Path) -> Float32:
    try:
        array = load_npy(path, mapped=False)
    except InputError as error:
        raise InputError(f"--vector {error}") from None
    vectors: Any = np.atleast_2d(array)
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise InputError(f"--vector {path} holds {array.dtype} {array.shape}, not (q, d) numbers")
    return unit(vector_transform(vectors, lambda row: f"{path}: row {row}"))
