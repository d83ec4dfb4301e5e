"""What the user says about the data."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from remine.data.errors import InputError

COLUMNS = ("id", "label", "split", "group", "image", "path", "text", "vector")


@dataclass(frozen=True, kw_only=True)
class GlyphConfig:
    """What to draw.

    size: pixels a side. variants: pictures per character and typeface. jitter: strength of the
    random affine change of each picture, 0 to 1 (needed when variants > 1). min_typefaces: leave
    out characters that fewer typefaces draw. characters: how many classes at most, 0 for all.
    """

    size: int = 32
    variants: int = 1
    jitter: float = 0.0
    min_typefaces: int = 12
    characters: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 512:
            raise InputError(f"data.glyphs.size is {self.size}; it must be 8 to 512")
        if not 1 <= self.variants <= 10_000:
            raise InputError(f"data.glyphs.variants is {self.variants}; it must be 1 to 10000")
        if not 0 <= self.jitter <= 1:
            raise InputError(f"data.glyphs.jitter is {self.jitter}; it must be 0 to 1")
        if self.variants > 1 and self.jitter == 0:
            raise InputError("data.glyphs.variants > 1 needs data.glyphs.jitter > 0")
        if not 2 <= self.min_typefaces <= 24:
            raise InputError(f"data.glyphs.min_typefaces is {self.min_typefaces}; it must be 2-24")
        if self.characters < 0:
            raise InputError(f"data.glyphs.characters is {self.characters}; it must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the items are and how they are read.

    source: "glyphs", a Parquet or CSV file, a folder of Parquet files, a folder of images by class,
    or an .npy file of vectors (then `labels` names an .npy or text file of n labels).
    columns: our name = yours, where they differ. image_size: pixels a side to fit every picture
    to; 0 takes them as they are, all of one size. channels: 1 or 3; 0 as the first picture has.
    val_share, test_share: shares of the classes, where the data names no splits. val_from_train:
    share of the training classes that become val, where it names train and test only.
    unit_rows: rows in a shard, the unit of work.
    """

    source: str = "glyphs"
    labels: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    image_size: int = 0
    channels: int = 0
    val_share: float = 0.1
    test_share: float = 0.2
    val_from_train: float = 0.0
    unit_rows: int = 8192
    glyphs: GlyphConfig = field(default_factory=GlyphConfig)

    def __post_init__(self) -> None:
        if not self.source:
            raise InputError('data.source is empty; name a file, a folder or "glyphs"')
        if unknown := set(self.columns) - set(COLUMNS):
            raise InputError(
                f"unknown key data.columns.{min(unknown)}; known: {', '.join(COLUMNS)}"
            )
        if self.image_size and not 8 <= self.image_size <= 2048:
            raise InputError(f"data.image_size is {self.image_size}; it must be 0 or 8 to 2048")
        if self.channels not in (0, 1, 3):
            raise InputError(f"data.channels is {self.channels}; it must be 0, 1 or 3")
        if not 0 <= self.val_share < 1 or not 0 < self.test_share < 1:
            raise InputError("data.val_share and data.test_share must lie between 0 and 1")
        if not 0 <= self.val_from_train < 1:
            raise InputError(f"data.val_from_train is {self.val_from_train}; it must be 0 to 1")
        if self.val_share + self.test_share >= 1:
            raise InputError("data.val_share + data.test_share leave no class to train on")
        if not 16 <= self.unit_rows <= 1_000_000:
            raise InputError(f"data.unit_rows is {self.unit_rows}; it must be 16 to 1000000")
