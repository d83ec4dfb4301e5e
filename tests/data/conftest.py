"""What the tests of data/ share: small pictures and tables, the way from a source to a store."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from PIL import Image

from remine.data import schemas
from remine.data.config import DataConfig
from remine.data.errors import InputError
from remine.data.items.catalogue import Catalogue, read_catalogue
from remine.data.items.inputs import ImageTransform, Inputs, Transform, vector_transform
from remine.data.items.shards import stage_items
from remine.data.items.source_catalogue import build_catalogue
from remine.data.items.staging import staging_folder
from remine.data.sources.source import open_source
from remine.data.store.records import Artifact, Version
from remine.data.store.store import Store

# Twelve classes of two items, more than one shard of 16 rows. Their hashes fill all three splits.
LABELS = [name for name in "abcdefghijkl" for _ in range(2)]
SHARD = 16


@dataclass(frozen=True, kw_only=True)
class Laid:
    """What lies in the store, read back."""

    store: Store
    items: Artifact
    inputs: Artifact

    @property
    def catalogue(self) -> Catalogue:
        return read_catalogue(self.store, self.items)

    @property
    def labels(self) -> list[str]:
        """Each item's label, by way of its code."""
        result = self.catalogue
        return [result.labels[code] for code in result.label_codes]

    @property
    def contents(self) -> np.ndarray:
        """Every item's input."""
        inputs = Inputs(self.store.paths(self.inputs))
        return inputs[np.arange(len(inputs))]

    @property
    def table(self) -> pa.Table:
        """Every column of the items."""
        *shards, _names = self.store.paths(self.items)
        return schemas.read(shards, schema=schemas.ITEMS)


def first_bytes(texts, _row_name) -> np.ndarray:
    """Texts as 8 bytes each; data/ leaves the real transform to the encoder."""
    return np.array([list(text.encode()[:8].ljust(8)) for text in texts], np.uint8)


def transform_of(content: str, config: DataConfig) -> Transform:
    if content in ("image", "path"):
        return ImageTransform(config.image_size, config.channels)
    return vector_transform if content == "vector" else first_bytes


@pytest.fixture
def labels() -> list[str]:
    """The labels that `table` writes where none are given."""
    return list(LABELS)


@pytest.fixture
def lay_down(tmp_path) -> Callable[..., Laid]:
    """From a source below `tmp_path` to a store, in the order in which a cycle does it."""

    def run(source: Path | str, **settings: Any) -> Laid:
        config = DataConfig(source=str(source), unit_rows=SHARD, **settings)
        handle = open_source(config, tmp_path)
        handle.fingerprint()
        result = build_catalogue(handle, config)
        root = tmp_path / "store"
        with staging_folder(root) as folder:
            transform = transform_of(handle.content, config)
            staging = stage_items(handle, result, transform, folder, SHARD)
            store = Store(root, create=True)
            items, inputs = staging.commit(store)
        return Laid(store=store, items=items, inputs=inputs)

    return run


@pytest.fixture
def refusal(tmp_path, lay_down) -> Callable[..., str]:
    """The message with which a source is refused: one line, and no trace is left on the disk."""

    def run(source: Path | str, **settings: Any) -> str:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(InputError) as error:
            lay_down(source, **settings)
        assert sorted(tmp_path.rglob("*")) == before
        message = str(error.value)
        assert message
        assert "\n" not in message
        return message

    return run


@pytest.fixture
def table(tmp_path) -> Callable[..., Path]:
    """Writes columns as a Parquet or CSV file; `label` is LABELS where not given, None for none."""

    def write(name: str = "items.parquet", **columns: Any) -> Path:
        columns = {"label": LABELS, **columns}
        content = pa.table({k: v for k, v in columns.items() if v is not None})
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".csv":
            pyarrow.csv.write_csv(content, path)
        else:
            pq.write_table(content, path)
        return path

    return write


@pytest.fixture(scope="session")
def picture() -> Callable[..., bytes]:
    """A PNG all of one colour."""

    def draw(colour=0, size: tuple[int, int] = (8, 8), mode: str = "L") -> bytes:
        buffer = io.BytesIO()
        Image.new(mode, size, colour).save(buffer, "PNG")
        return buffer.getvalue()

    return draw


def make(store: Store, number: int) -> Version:
    """Two rounds a cycle: `items` shared by all, `index` of this version alone, with receipts."""
    parts = {}
    for key, kind, content in (
        ("items", "items", b"items"),
        (f"index-{number}", "index", b"index %d" % number),
    ):
        file = store.put_bytes(content, name="part-00000.bin", rows=1)
        parts[kind] = store.remember(key, Artifact(kind=kind, files=(file,)))
    current = store.current()
    return Version(
        number=number,
        parent=current.digest if current else None,
        cycle=(number + 1) // 2,
        round=(number + 1) % 2,
        rounds=1,
        config={"seed": 1},
        artifacts=parts,
    )


@pytest.fixture(scope="session")
def make_version() -> Callable[[Store, int], Version]:
    """Makes the version of that number, unpublished; the odd ones begin a cycle of two."""
    return make


@pytest.fixture(scope="session")
def versions() -> Callable[[Store, int], list[Version]]:
    """Publishes versions 1 to `count`."""

    def run(store: Store, count: int) -> list[Version]:
        output = []
        for number in range(1, count + 1):
            output.append(make(store, number))
            store.publish(output[-1])
        return output

    return run
