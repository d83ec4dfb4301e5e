"""Preparing: from the source to items and inputs in the store; only what is new is decoded.

Nothing is written to a store before every row has been checked, and the store is created only then.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from remine.data.errors import InputError, StoreError
from remine.data.items.bad_items import BadItems, SkippingSource
from remine.data.items.catalogue import Catalogue
from remine.data.items.changes import EarlierItems, numbering_note, source_key
from remine.data.items.colour import first_with_colour
from remine.data.items.growth import ItemsUpdate, NumberedSource
from remine.data.items.inputs import (
    PICTURES,
    ImageTransform,
    Transform,
    input_bytes,
    omission_lines,
    shard_rows,
)
from remine.data.items.shards import StagedItems, stage_items
from remine.data.items.source_catalogue import build_catalogue
from remine.data.items.staging import clear_beside, staging_folder
from remine.data.items.tensors import blank
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
    picture_transform,
    transform_key,
)

if TYPE_CHECKING:
    from remine.flows.config.settings import Config
    from remine.flows.jobs.console import Bar, Console

SKIPPED = "set aside"

HEADERS = 1024
"""Pictures whose headers are read at a time."""

StoredData = tuple[Artifact, Artifact]
"""The items and the inputs."""


def prepare(config: "Config", console: "Console") -> tuple[Store, Artifact, Artifact]:
    """Check the data and store it.

    Items that the newest version holds with the same content are not decoded again.

    Returns:
        The store, which is created if there is none, the items and the inputs.

    Raises:
        InputError: The data or the settings cannot be used; nothing was written.

    """
    source = open_source(config.data, config.base)
    for line in source.notes:
        console.say(line)
    preparation = _Preparation(config=config, source=source, recipe=_recipe(config))
    fingerprint = source.fingerprint()
    place = place_of(config.store)
    if not place.has_store():
        place.check()
        items, inputs = preparation.run(None, None, console)
        store, base = Store(config.store), None
    else:
        store = Store(config.store)
        version = store.current()
        base = (version.artifacts["items"], version.artifacts["inputs"]) if version else None
        if data := _recall(store, preparation, fingerprint, base):
            items, inputs = data
            _check_settings(config, source, inputs.card, items.rows)
            if "skipped" in items.card:
                console.say(f"{SKIPPED}: {items.card['skipped']}")
            return store, items, inputs
        items, inputs = preparation.run(store, base, console)
    # Remembered twice: for the state that it was made from, and for the next run, whose state
    # before is the result.
    for state in (base, (items, inputs)):
        key = preparation.key(fingerprint, state)
        store.remember(f"{key}-items", items)
        store.remember(f"{key}-inputs", inputs)
    store.remember(source_key(fingerprint, config.data, items), items)
    return store, items, inputs


def _recall(
    store: Store, preparation: "_Preparation", fingerprint: object, base: StoredData | None
) -> StoredData | None:
    key = preparation.key(fingerprint, base)
    items, inputs = store.recall(f"{key}-items"), store.recall(f"{key}-inputs")
    return (items, inputs) if items and inputs else None


def _recipe(config: "Config") -> str:
    """Hash of what decides an item's input, beside its content."""
    data = [config.data.image_size, config.data.channels, config.data.fit]
    return digest([data, transform_key(config.encoder, config.base), code_hash(__name__)])


@dataclass(frozen=True, kw_only=True)
class _Preparation:
    """A source that is to be stored by a recipe."""

    config: "Config"
    source: Source
    recipe: str

    def key(self, fingerprint: object, base: StoredData | None) -> str:
        """Hash of the data, the settings, the code and the state of the store before."""
        settings = asdict(self.config.data)
        for path in ("source", "labels"):
            del settings[path]
        state = [artifact.digest for artifact in base or ()]
        return digest(["prepare", fingerprint, settings, self.recipe, state])

    def run(self, store: Store | None, base: StoredData | None, console: "Console") -> StoredData:
        """Write all shards to a staging folder, check them, and put them into the store.

        store: None if it is to be created.
        """
        earlier = _earlier_items(store, base, self.source) if store and base else None
        place = place_of(self.config.store).local
        note_count = len(self.source.notes)
        with console.stage("prepare", "items") as bar, _staging(place) as folder:
            staged_items, lines, bad_items = self.checked(store, earlier, folder, bar)
            if bad_items.reasons:
                total = len(self.source.metadata())
                if self.config.data.bad == "refuse":
                    raise bad_items.refusal(total)
                line = bad_items.line(total)
                source = SkippingSource(self.source, set(bad_items.reasons))
                remaining = replace(self, source=source)
                staged_items, lines, _ = remaining.checked(store, earlier, folder, bar)
                lines = [*lines, f"{SKIPPED}: {line}"]
                items_card = {**staged_items.items_card, "skipped": line}
                staged_items = replace(staged_items, items_card=items_card)
            for line in [*self.source.notes[note_count:], *lines]:
                console.say(line)
            items, inputs = staged_items.commit(store or Store(self.config.store, create=True))
        if earlier and _is_unchanged(items, inputs, earlier):
            return earlier.items, earlier.inputs
        return items, inputs

    def checked(
        self, store: Store | None, earlier: EarlierItems | None, folder: Path, bar: "Bar"
    ) -> tuple[StagedItems, list[str], BadItems]:
        """The shards in `folder`, lines for the console, and the items that cannot be read."""
        update = ItemsUpdate.of(self.source, self.config.data, earlier) if earlier else None
        lines = []
        if update and earlier:
            lines = [numbering_note(update.catalogue, earlier), update.comparison.change.line()]
        source = update.source if update else self.source
        catalogue = update.catalogue if update else build_catalogue(source, self.config.data)
        transform = self._transform(update)
        lines += [*catalogue.cleaning.lines(), catalogue.val_note]
        if self.config.run.gallery != "train":
            lines.append(catalogue.test_note())
        lines.append(_choose_channels(transform, source))
        bad_items = BadItems(transform)
        staged_items = self._stage(store, update, catalogue, bad_items, folder, bar)
        inputs_card = {**staged_items.inputs_card, "recipe": self.recipe}
        if isinstance(transform, ImageTransform):
            inputs_card["fit"] = transform.fit  # queries are fitted in the same way
        _check_settings(self.config, self.source, inputs_card, len(catalogue.ids))
        items_card = {**staged_items.items_card, **_origin(source, catalogue, update)}
        staged_items = replace(staged_items, items_card=items_card, inputs_card=inputs_card)
        lines += omission_lines(transform)
        return staged_items, [line for line in lines if line], bad_items

    def _stage(
        self,
        store: Store | None,
        update: ItemsUpdate | None,
        catalogue: Catalogue,
        transform: BadItems,
        folder: Path,
        bar: "Bar",
    ) -> StagedItems:
        """Write the shards to `folder`; earlier inputs are used again if the recipe is the same."""
        unit_rows = self.config.data.unit_rows
        if store and update and self._reuses_inputs(update):
            bar.partial = True
            file = update.earlier.inputs.files[0]
            rows = shard_rows(file.bytes // max(1, file.rows), unit_rows)
            return update.stage(store, transform, folder, rows, bar.update)
        source = update.source if update else self.source
        size = input_bytes(transform.transform, next(iter(source.blocks(1))))
        rows = shard_rows(size, unit_rows)
        return stage_items(source, catalogue, transform, folder, rows, bar.update)

    def _transform(self, update: ItemsUpdate | None) -> Transform:
        """The transform of contents, to the shape of earlier inputs if they are used again."""
        is_reused = update is not None and self._reuses_inputs(update)
        shape = update.earlier.inputs.card["shape"] if update and is_reused else ()
        return transform_of(self.source, self.config, shape)

    def _reuses_inputs(self, update: ItemsUpdate) -> bool:
        if not update.comparison.same_content.any() or not self._fits(update.earlier):
            return False
        return not self._gains_colour(update)

    def _gains_colour(self, update: ItemsUpdate) -> bool:
        """Whether a new picture has colour and the earlier inputs have none."""
        shape = update.earlier.inputs.card["shape"]
        if self.config.data.channels or self.source.content not in PICTURES:
            return False
        if len(shape) != 3 or shape[0] != 1:
            return False
        return first_with_colour(update.new_contents(HEADERS)) is not None

    def _fits(self, earlier: EarlierItems) -> bool:
        """Whether the earlier inputs were made by this recipe from the same kind of content."""
        origin = earlier.inputs.card.get("recipe"), earlier.items.card["content"]
        return origin == (self.recipe, self.source.content)


def _choose_channels(transform: Transform, source: Source) -> str:
    """Settle the channels of pictures if data.channels leaves them open; a line that says how."""
    if not isinstance(transform, ImageTransform) or transform.channels:
        return ""
    row = first_with_colour(source.blocks(HEADERS))
    transform.channels = 1 if row is None else 3
    if row is None:
        return "pictures: 1 channel, for none has colour (data.channels = 3 makes three)"
    return (
        f"pictures: 3 channels, for {source.row_name(row)} has colour (data.channels = 1 makes all"
        " grey)"
    )


def _origin(source: Source, catalogue: Catalogue, update: ItemsUpdate | None) -> dict[str, Any]:
    """For the card of the items: the change, and the next id in a source without ids."""
    card: dict[str, Any] = {}
    if update:
        change = update.comparison.change.to_json()
        card["change"] = {**change, "base": update.earlier.items.digest}
    if isinstance(source, NumberedSource):
        next_id = update.earlier.next_id if update else 0
        card["next_id"] = max(next_id, int(catalogue.ids[-1]) + 1)
    return card


def _is_unchanged(items: Artifact, inputs: Artifact, earlier: EarlierItems) -> bool:
    """Whether items and inputs are the same files by the same recipe as the earlier ones."""
    same_files = items.files == earlier.items.files and inputs.files == earlier.inputs.files
    return same_files and inputs.card["recipe"] == earlier.inputs.card.get("recipe")


def _earlier_items(store: Store, base: StoredData, source: Source) -> EarlierItems | None:
    """The items stored last; None if they are damaged and can be stored again."""
    try:
        store.paths(base[1])
        return EarlierItems.read(store, *base)
    except StoreError:
        if source.lacks_ids and "change" in base[0].card:
            raise  # only the damaged files hold which item has which id
        return None


@contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """A staging folder on the disk of the store, which may be mounted below its parent folder."""
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
    encoder_design = design(config.encoder, source.content, shape, dtype, base)
    if config.augment.is_on and (dtype != "uint8" or len(shape) != 3 or shape[0] not in (1, 3)):
        raise InputError(
            f"[augment] changes pictures of uint8 pixels, and of each {source.content} the encoder"
            f" reads {dtype} of shape {tuple(shape)}: leave it out"
        )
    encoder = full_encoder(build_trainable(encoder_design, base), encoder_design, base).eval()
    with torch.inference_mode():
        check_factory(config.index, n, encoder(blank(1, shape, dtype)).shape[1])


def transform_of(source: Source, config: "Config", shape: Sequence[int] = ()) -> Transform:
    """From contents to inputs. shape: of earlier inputs, which new pictures must have, too."""
    pictures = picture_transform(config.encoder, source.content, config.base, config.data)
    if len(shape) == 3 and source.content in PICTURES:
        pictures = ImageTransform.for_shape(shape, resize=pictures.resize, fit=pictures.fit)
    return input_transform(config.encoder, source.content, config.base, pictures)
