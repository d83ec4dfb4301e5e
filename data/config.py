"""Configuration of the data: where the items are and how they are read."""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Literal, get_args

from pydantic import Field

from remine.data.config_table import Notation, Share, Unit, config_table
from remine.data.errors import InputError

Column = Literal["id", "label", "split", "group", "image", "path", "text", "vector"]
COLUMNS: tuple[Column, ...] = get_args(Column)


Fit = Literal["crop", "pad", "stretch"]
"""How a picture of another shape becomes a square."""


@config_table("data.glyphs")
class GlyphConfig:
    """Generated items: pictures of characters, each in many typefaces; the class is the character.

    Used by data.source = "glyphs" only.
    """

    size: Annotated[int, Field(ge=8, le=512), Unit("pixels")] = 32
    """Side of a picture."""
    variants: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Pictures per character and typeface. More than 1 needs jitter above 0."""
    jitter: Share = 0.0
    """Strength of the random affine distortion of each picture."""
    min_typefaces: Annotated[int, Field(ge=2, le=24)] = 12
    """Leave out characters that fewer typefaces contain."""
    characters: Annotated[int, Field(ge=0)] = 0
    """Largest number of characters (classes); 0 for all."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the distortions."""

    def __post_init__(self) -> None:
        if self.variants > 1 and self.jitter == 0:
            raise InputError("data.glyphs.variants > 1 needs data.glyphs.jitter > 0")


@config_table("data")
class DataConfig:
    """Where the items are and how they are read."""

    source: Annotated[str, Field(min_length=1), Notation('a file, a folder or "glyphs"')] = "glyphs"
    """What to read, one of:
    "glyphs", which generates pictures of characters;
    a Parquet or CSV file, or a folder of Parquet files, with one row per item;
    a folder of images with one folder per class (class_folders), perhaps below train, val, test;
    an .npy file of vectors, together with `labels`.
    """
    labels: str = ""
    """For .npy vectors: an .npy or text file with one label per vector."""
    columns: Mapping[Column, str] = field(default_factory=dict)
    """Names of your columns where they differ from ours, as in { label = "sku" }. Ours are
    id, label, split, group, image, path, text and vector.
    """

    extra_columns: tuple[str, ...] = ()
    """Other columns of a table that are kept with the items and shown in results, such as
    ["url", "price"]: texts, numbers or booleans.
    """

    image_size: Literal[0] | Annotated[int, Field(ge=8, le=2048), Unit("pixels")] = 0
    """# Pictures

    Scale every picture to this side. 0 takes pictures as they are; all must have one size.
    """
    fit: Fit | Literal["auto"] = "auto"
    """How pictures of other shapes are fitted to that side.
    auto: as the pretrained network asks, else crop
    crop: the shorter side is scaled to it, and the middle is taken
    pad: the longer side is scaled to it, and the rest is filled with the colour of the picture's
      own edge
    stretch: both sides are scaled to it
    """
    channels: Literal[0, 1, 3] = 0
    """1 for grey, 3 for colour, 0 for colour if any picture has some, else grey."""
    class_folders: Literal["leaf", "top"] = "leaf"
    """Which folders of a folder of images are the classes: "leaf", those that hold the pictures,
    named by their path; or "top", those at the top, with all that is below them.
    """

    bad: Literal["refuse", "skip"] = "refuse"
    """What to do with items whose picture, text or vector cannot be read: refuse the source and
    list them, or set them aside and count them. One that is mended later is a new item.
    """

    val_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """# Splits

    Share of the classes in the validation split, if the data has no split column.
    """
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the classes in the test split, if the data has no split column."""
    val_from_train: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the training classes that become the validation split, if the data has a split
    column without val; 0 for none. Where classes are also tested (a closed set), or are fewer than
    ten, that share of the items of each becomes val instead.
    """

    unknown_labels: tuple[str, ...] = ()
    """Labels of items that are of no class, such as "oos" for out of scope. They are never trained
    on and never found; they measure how well a search rejects what it does not know. The same as
    the split "unknown" in a split column.
    """

    unit_rows: Annotated[int, Field(ge=16, le=1_000_000)] = 8192
    """# Work

    Most rows of a shard, the unit of work of the Beam jobs; of large inputs, such as photos, a
    shard has fewer, so that it weighs 16 MiB.
    """
    glyphs: GlyphConfig = field(default_factory=GlyphConfig)

    def __post_init__(self) -> None:
        if self.val_share + self.test_share >= 1:
            raise InputError(
                f"data.val_share is {self.val_share} and data.test_share {self.test_share}; their"
                " sum must be below 1 to leave classes to train on"
            )
