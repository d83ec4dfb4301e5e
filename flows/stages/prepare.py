"""Preparing: from the source to items and inputs in the store, only what is new.

Nothing is touched before the last row was found sound; the store is made only then.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from remine.data.errors import InputError, StoreError
from remine.data.items.catalogue import Catalogue, build_catalogue
from remine.data.items.changes import EarlierItems, compare_items, content_hashes, source_key
from remine.data.items.growth import ItemsUpdate, NumberedSource, match_by_content, recode_labels
from remine.data.items.inputs import PICTURES, ImageTransform, Transform
from remine.data.items.shards import StagedItems, stage_items
from remine.data.items.staging import clear_beside, staging_folder
from remine.data.sources.source import Source, open_source
from remine.data.store.records import Artifact, digest
from remine.data.store.store import Store, place_of
from remine.flows.jobs.stage_code import code_hash
from remine.index.build import check_factory
from remine.train.encoders.design import (
    build_trainable,
    design,
    full_encoder,
    input_transform,
    transform_key,
)

if TYPE_CHECKING:
    from remine.flows.config.settings import Config
    from remine.flows.jobs.console import Bar, Console

Prepared = tuple[Artifact, Artifact]
"""The items and the inputs."""


def prepare(config: "Config", console: "Console") -> tuple[Store, Artifact, Artifact]:
    """Check the data and lay it down: the store, the items and the inputs.

    Items that the newest version holds with the same content are not decoded again.
    """
    source = open_source(config.data, config.base)
    laying = Laying(config=config, source=source, recipe=_recipe(config))
    print_ = source.fingerprint()
    place = place_of(config.store)
    if not place.has_store():
        place.check()
        items, inputs = laying.run(None, None, console)
        store = Store(config.store)
        base = None
    else:
        store = Store(config.store)
        version = store.current()
        base = (version.artifacts["items"], version.artifacts["inputs"]) if version else None
        if found := _recalled(store, laying, print_, base):
            items, inputs = found
            _check_settings(config, source, inputs.card, items.rows)
            return store, items, inputs
        items, inputs = laying.run(store, base, console)
    # Under what it was made from, and under what it is: the base of the next run.
    for one in (base, (items, inputs)):
        key = laying.key(print_, one)
        store.remember(f"{key}-items", items)
        store.remember(f"{key}-inputs", inputs)
    store.remember(source_key(print_, config.data, items), items)
    return store, items, inputs


def _recalled(
    store: Store, laying: "Laying", fingerprint: object, base: Prepared | None
) -> Prepared | None:
    key = laying.key(fingerprint, base)
    items, inputs = store.recall(f"{key}-items"), store.recall(f"{key}-inputs")
    return (items, inputs) if items and inputs else None


def _recipe(config: "Config") -> str:
    """What decides an item's input beside its content."""
    data = [config.data.image_size, config.data.channels]
    return digest([data, transform_key(config.encoder, config.base), code_hash(__name__)])


@dataclass(frozen=True, kw_only=True)
class Laying:
    """One source to be laid down under one recipe."""

    config: "Config"
    source: Source
    recipe: str

    def key(self, fingerprint: object, base: Prepared | None) -> str:
        """The data, the settings, the code, and what was there before."""
        settings = asdict(self.config.data)
        for elsewhere in ("source", "labels"):
            del settings[elsewhere]
        before = [artifact.digest for artifact in base or ()]
        return digest(["prepare", fingerprint, settings, self.recipe, before])

    def run(self, store: Store | None, base: Prepared | None, console: "Console") -> Prepared:
        """Stage, check, commit. store: None where it is to be made."""
        earlier = _earlier(store, base, self.source) if store and base else None
        place = place_of(self.config.store).local
        with console.stage("prepare", "items") as bar, _staging(place) as folder:
            found = self._look(earlier, console)
            staged = self._staged(store, found, folder, bar)
            inputs_card = {**staged.inputs_card, "recipe": self.recipe}
            _check_settings(self.config, self.source, inputs_card, len(found.catalogue.ids))
            items_card = {**staged.items_card, **found.note(earlier)}
            staged = replace(staged, items_card=items_card, inputs_card=inputs_card)
            items, inputs = staged.commit(store or Store(self.config.store, create=True))
        if earlier and _alike(items, inputs, earlier):
            return earlier.items, earlier.inputs
        return items, inputs

    def _look(self, earlier: EarlierItems | None, console: "Console") -> "Looked":
        """Who is in the source, and what of it is as it was."""
        source: Source = self.source
        if not earlier:
            found = build_catalogue(source, self.config.data)
            return Looked(source=source, catalogue=found, grown=None)
        source.metadata()  # which brings the rows in the order of ids
        hashes = content_hashes(source)
        if source.lacks_ids:
            source, hashes = match_by_content(source, hashes, earlier)
        found = recode_labels(build_catalogue(source, self.config.data), earlier.catalogue.labels)
        compared = compare_items(found, hashes, earlier)
        console.say(compared.change.line())
        grown = ItemsUpdate(
            source=source, catalogue=found, hashes=hashes, comparison=compared, earlier=earlier
        )
        return Looked(source=source, catalogue=found, grown=grown)

    def _staged(
        self, store: Store | None, found: "Looked", folder: Path, bar: "Bar"
    ) -> StagedItems:
        """The shards in `folder`; inputs of before are taken where they are of this recipe."""
        rows, grown = self.config.data.unit_rows, found.grown
        if store and grown and grown.comparison.same_content.any() and self._fits(grown.earlier):
            shape = grown.earlier.inputs.card["shape"]
            transform = _transform(self.source, self.config, shape)
            bar.partial = True
            return grown.stage(store, transform, folder, rows, bar.update)
        transform = _transform(self.source, self.config)
        return stage_items(found.source, found.catalogue, transform, folder, rows, bar.update)

    def _fits(self, earlier: EarlierItems) -> bool:
        of_before = earlier.inputs.card.get("recipe"), earlier.items.card["content"]
        return of_before == (self.recipe, self.source.content)


@dataclass(frozen=True, kw_only=True)
class Looked:
    """A source in order of id, who is in it, and how that compares with what was there."""

    source: Source
    catalogue: Catalogue
    grown: ItemsUpdate | None

    def note(self, earlier: EarlierItems | None) -> dict[str, Any]:
        """For the card of the items."""
        note: dict[str, Any] = {}
        if self.grown and earlier:
            change = self.grown.comparison.change.to_json()
            note["change"] = {**change, "base": earlier.items.digest}
        if isinstance(self.source, NumberedSource):
            note["next_id"] = max(
                earlier.next_id if earlier else 0, int(self.catalogue.ids[-1]) + 1
            )
        return note


def _alike(items: Artifact, inputs: Artifact, earlier: EarlierItems) -> bool:
    """Whether nothing is other than before."""
    files = items.files == earlier.items.files and inputs.files == earlier.inputs.files
    return files and inputs.card["recipe"] == earlier.inputs.card.get("recipe")


def _earlier(store: Store, base: Prepared, source: Source) -> EarlierItems | None:
    """What was there before; None where it is damaged and can be laid down again."""
    try:
        store.paths(base[1])
        return EarlierItems.read(store, *base)
    except StoreError:
        if source.lacks_ids and "change" in base[0].card:
            raise  # only they know which item has which id
        return None


@contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """A staging folder on the disk of the store, which may be another than its parent's."""
    root = root.resolve()
    if not root.is_dir():
        with staging_folder(root) as folder:
            yield folder
        return
    clear_beside(root)
    (root / "tmp").mkdir(exist_ok=True)
    try:
        with staging_folder(root / "tmp") as folder:
            yield folder
    finally:
        if not (root / "FORMAT").exists():
            with suppress(OSError):
                (root / "tmp").rmdir()


def _check_settings(config: "Config", source: Source, inputs: Mapping[str, Any], n: int) -> None:
    """Refuse an encoder or an index that does not fit the data, before a store is made for it."""
    shape, dtype, base = inputs["shape"], inputs["dtype"], config.base
    found = design(config.encoder, source.content, shape, dtype, base)
    if config.augment.is_on and (dtype != "uint8" or len(shape) != 3 or shape[0] not in (1, 3)):
        raise InputError(
            f"[augment] changes pictures of uint8 pixels, and of each {source.content} the encoder"
            f" reads {dtype} of shape {tuple(shape)}: leave it out"
        )
    encoder = full_encoder(build_trainable(found, base), found, base).eval()
    one = torch.zeros((1, *shape), dtype=getattr(torch, dtype))
    with torch.inference_mode():
        check_factory(config.index, n, encoder(one).shape[1])


def _transform(source: Source, config: "Config", shape: Sequence[int] = ()) -> Transform:
    """From contents to inputs. shape: of earlier inputs, which new pictures must have, too."""
    side, channels = config.data.image_size, config.data.channels
    if shape and source.content in PICTURES:
        pictures = ImageTransform.for_shape(shape, resize=side > 0)
    else:
        pictures = ImageTransform(side, channels)
    return input_transform(config.encoder, source.content, config.base, pictures)
