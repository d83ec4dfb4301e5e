"""What is new, changed or gone: by plain loops, and for every kind of source."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remine.data.config import DataConfig
from remine.data.errors import InputError
from remine.data.items.catalogue import Catalogue
from remine.data.items.changes import (
    EarlierItems,
    assign_ids,
    compare_items,
    content_hashes,
    rows_of,
    shard_ranges,
)
from remine.data.items.growth import ItemsUpdate, match_by_content, recode_labels, regroup
from remine.data.items.inputs import ImageTransform, vector_transform
from remine.data.items.shards import content_hash
from remine.data.items.source_catalogue import build_catalogue
from remine.data.items.staging import staging_folder
from remine.data.sources.source import open_source
from remine.data.store.records import Artifact

SIZE = 16


def catalogue_of(ids: list[int], labels: list[str], splits: list[int], groups: Any) -> Catalogue:
    names = sorted(set(labels))
    return Catalogue(
        ids=np.array(ids, np.int64),
        label_codes=np.array([names.index(label) for label in labels], np.int32),
        labels=names,
        splits=np.array(splits, np.int8),
        groups=pa.chunked_array([pa.array(groups, pa.string())]),
    )


def earlier_of(found: Catalogue, hashes: list[str]) -> EarlierItems:
    none = Artifact(kind="items", files=())
    return EarlierItems(
        items=none,
        inputs=none,
        catalogue=found,
        hashes=np.array(hashes, "S32"),
        lasts=found.ids[-1:],
        next_id=int(found.ids[-1]) + 1,
    )


rows = st.dictionaries(
    st.integers(0, 30),
    st.tuples(
        st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 2), st.none() | st.just("g")
    ),
    min_size=1,
)


def both(items: dict[int, tuple[str, str, int, str | None]]) -> tuple[Catalogue, list[str]]:
    ids = sorted(items)
    hashes, labels, splits, groups = zip(*(items[i] for i in ids), strict=True)
    return catalogue_of(ids, list(labels), list(splits), list(groups)), list(hashes)


@settings(deadline=None)
@given(old=rows, new=rows)
def test_counts_by_a_plain_loop(old, new):
    before, was = both(old)
    after, now = both(new)
    result = compare_items(
        recode_labels(after, before.labels), np.array(now, "S32"), earlier_of(before, was)
    )
    assert result.change.new == sum(i not in old for i in new)
    assert result.change.deleted == sum(i not in new for i in old)
    assert result.change.changed == sum(i in old and old[i] != new[i] for i in new)
    assert result.change.same == sum(i in old and old[i] == new[i] for i in new)
    ids = sorted(new)
    assert result.same_content.tolist() == [i in old and old[i][0] == new[i][0] for i in ids]
    assert not (result.same_row & ~result.same_content).any()


@given(old=st.lists(st.sampled_from("abc"), min_size=1), new=st.lists(st.sampled_from("bcde")))
def test_new_labels_move_no_code_and_unused_ones_go(old, new):
    used = [*new, old[0]]
    known = sorted(set(old))
    result = catalogue_of(list(range(len(used))), used, [0] * len(used), [None] * len(used))
    repetition = recode_labels(result, known)
    assert [repetition.labels[c] for c in repetition.label_codes] == used
    assert set(repetition.labels) == set(used)
    remainder = [label for label in known if label in used]
    assert list(repetition.labels[: len(remainder)]) == remainder


contents = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("xy")), min_size=1)


@given(old=contents, new=contents)
def test_numbers_are_kept_by_content_and_never_given_twice(old, new):
    ids = [3 * i for i in range(len(old))]
    result = catalogue_of(ids, [label for _, label in old], [0] * len(old), [None] * len(old))
    earlier = earlier_of(result, [content for content, _ in old])
    assigned_ids = assign_ids(
        [label for _, label in new], np.array([content for content, _ in new], "S32"), earlier
    ).tolist()
    assert len(set(assigned_ids)) == len(new)
    remainder = {row: number for row, number in enumerate(assigned_ids) if number < earlier.next_id}
    for row, number in remainder.items():
        assert old[ids.index(number)][0] == new[row][0]
    for content in "abcd":
        had, has = ([c for c, _ in part].count(content) for part in (old, new))
        assert sum(new[row][0] == content for row in remainder) == min(had, has)
        for label in "xy":  # the same label first
            pairs = min(part.count((content, label)) for part in (old, new))
            matches = [row for row in remainder if new[row] == old[ids.index(remainder[row])]]
            assert sum(new[row] == (content, label) for row in matches) >= pairs
    fresh = sorted(set(assigned_ids) - set(remainder.values()))
    assert fresh == list(range(earlier.next_id, earlier.next_id + len(fresh)))


@given(
    ids=st.sets(st.integers(0, 400), min_size=1),
    lasts=st.sets(st.integers(0, 300), min_size=1),
    size=st.integers(2, 40),
)
def test_shards_cover_all_rows_and_stay_small(ids, lasts, size):
    result = shard_ranges(np.array(sorted(ids)), np.array(sorted(lasts)), size)
    assert [row for start, stop in result for row in range(start, stop)] == list(range(len(ids)))
    assert all(0 < stop - start <= 2 * size for start, stop in result)


@given(n=st.integers(1, 200), size=st.integers(2, 40), more=st.integers(0, 100))
def test_full_shards_do_not_move_when_items_come_behind(n, size, more):
    ids = np.arange(n + more)
    cut = [(start, min(start + size, n)) for start in range(0, n, size)]
    lasts = np.array([stop - 1 for _, stop in cut])
    tiny = len(cut) > 1 and size + cut[-1][1] - cut[-1][0] <= size // 2
    assert not tiny
    assert shard_ranges(ids[:n], lasts, size) == cut
    full = [part for part in cut if part[1] - part[0] == size]
    assert shard_ranges(ids, lasts, size)[: len(full)] == full


@given(st.lists(st.integers(1, 9)), st.integers(1, 9))
def test_regrouped_is_the_same_rows(sizes, block):
    complete = list(range(sum(sizes)))
    blocks = [complete[i : i + block] for i in range(0, len(complete), block)]
    result = list(regroup(iter(blocks), sizes))
    assert [len(part) for part in result] == sizes
    assert [row for part in result for row in part] == complete
    arrays = regroup(iter([np.array(part) for part in blocks]), sizes)
    assert [row for part in arrays for row in part.tolist()] == complete


@given(st.sets(st.integers(0, 50), min_size=1), st.lists(st.integers(0, 60)))
def test_rows_of_ids(among, ids):
    ordered = sorted(among)
    result = rows_of(np.array(ids, np.int64), np.array(ordered, np.int64))
    assert result.tolist() == [ordered.index(i) if i in among else -1 for i in ids]


def grow(laid: Any, source: Path, base: Path) -> tuple[Any, Any]:
    """The next version of `laid`, of what `source` holds now."""
    config = DataConfig(source=str(source), unit_rows=SIZE)
    handle: Any = open_source(config, base)
    earlier = EarlierItems.read(laid.store, laid.items, laid.inputs)
    handle.metadata()
    hashes = content_hashes(handle)
    if handle.lacks_ids:
        handle, hashes = match_by_content(handle, hashes, earlier)
    result = recode_labels(build_catalogue(handle, config), earlier.catalogue.labels)
    compared = compare_items(result, hashes, earlier)
    growth = ItemsUpdate(
        source=handle, catalogue=result, hashes=hashes, comparison=compared, earlier=earlier
    )
    transform = vector_transform if handle.content == "vector" else ImageTransform(8, 1)
    with staging_folder(base / "store") as folder:
        staging = growth.stage(laid.store, transform, folder, SIZE, lambda *_: None)
        items, inputs = staging.commit(laid.store)
    return type(laid)(store=laid.store, items=items, inputs=inputs), compared.change


@pytest.mark.parametrize("ids", [True, False])
def test_a_table_of_vectors(tmp_path: Path, table: Callable[..., Path], lay_down, labels, ids):
    vectors = np.random.default_rng(0).standard_normal((24, 3)).astype(np.float32)
    custom = {"id": np.arange(24) * 2} if ids else {}
    layout = lay_down(table(vector=list(vectors), **custom))
    order = [23, *range(1, 12), *range(13, 23)]  # 0 and 12 gone, the last one first
    custom = {"id": np.arange(24)[order] * 2} if ids else {}
    path = table(vector=list(vectors[order]), label=[labels[i] for i in order], **custom)
    after, change = grow(layout, path, tmp_path)
    assert vars(change) == {"new": 0, "changed": 0, "deleted": 2, "same": 22}
    remainder = sorted(order)
    np.testing.assert_array_equal(after.contents, vectors[remainder])
    assert after.catalogue.ids.tolist() == [i * 2 if ids else i for i in remainder]
    assert after.labels == [labels[i] for i in remainder]
    hashes = [hashlib.blake2b(v.tobytes(), digest_size=16).hexdigest() for v in vectors[remainder]]
    assert after.table["content_hash"].to_pylist() == hashes


def test_labels_that_are_no_text_are_refused_on_a_grown_source(tmp_path, table, lay_down, labels):
    vectors = list(np.random.default_rng(0).standard_normal((24, 3)).astype(np.float32))
    layout = lay_down(table(vector=vectors))
    damage = pa.array([b"\xff", *(label.encode() for label in labels[1:])], pa.binary())
    damage = damage.cast(pa.string(), safe=False)
    with pytest.raises(InputError, match="label is string which cannot be read as text"):
        grow(layout, table(vector=vectors, label=damage), tmp_path)


@pytest.mark.parametrize("name", [".", "/dev/null"])
def test_only_files_are_read_for_their_hash(name):
    with pytest.raises(OSError, match="is not a file"):
        content_hash(Path(name))  # /dev/zero has no end


def test_a_folder_of_pictures_one_renamed_one_painted_over(tmp_path, lay_down, picture, labels):
    root = tmp_path / "pictures"
    for place, label in enumerate(labels):
        (root / label).mkdir(parents=True, exist_ok=True)
        (root / label / f"{place:02d}.png").write_bytes(picture(colour=9 * place))
    layout = lay_down(root, image_size=8, channels=1)
    first = dict(zip(layout.table["path"].to_pylist(), layout.catalogue.ids.tolist(), strict=True))
    (root / "a" / "00.png").rename(root / "a" / "later.png")
    (root / "c" / "04.png").write_bytes(picture(colour=250))
    after, change = grow(layout, root, tmp_path)
    # The renamed one is the same item; one of another content is another item.
    assert vars(change) == {"new": 1, "changed": 0, "deleted": 1, "same": 23}
    result = dict(zip(after.table["path"].to_pylist(), after.catalogue.ids.tolist(), strict=True))
    assert result.pop("a/later.png") == first.pop("a/00.png")
    assert result.pop("c/04.png") == 24
    del first["c/04.png"]
    assert result == first
    order = after.catalogue.ids.tolist()
    assert int(after.contents[order.index(24)].max()) == 250
    for place in (0, 5, 23):
        assert (after.contents[order.index(place)] == 9 * place).all()


def test_shards_without_a_change_are_the_same_files(tmp_path, table, lay_down, labels):
    vectors = np.random.default_rng(0).standard_normal((24, 3)).astype(np.float32)
    layout = lay_down(table(vector=list(vectors), id=np.arange(24)))
    vectors[20] += 1
    names = ["z" if i >= 22 else label for i, label in enumerate(labels)]
    after, _ = grow(layout, table(vector=list(vectors), id=np.arange(24), label=names), tmp_path)
    matches = [a == b for a, b in zip(after.items.files, layout.items.files, strict=True)]
    assert matches == [True, False, False]
    matches = [a == b for a, b in zip(after.inputs.files, layout.inputs.files, strict=True)]
    assert matches == [True, False]
