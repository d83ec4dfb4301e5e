"""Items of a version as cards: a picture or a text with its label, for HTML pages."""

import base64
import io
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from remine.data.items.catalogue import read_catalogue
from remine.data.items.inputs import Inputs
from remine.data.store.records import Version
from remine.data.store.store import Store

THUMBNAIL_SIDE = 100
"""Largest width and height in pixels of an item's picture on a page, which shows hundreds."""
JPEG_QUALITY = 80

PICTURE_CONTENT = ("image", "path")


@dataclass(frozen=True, kw_only=True)
class Card:
    """One item as the pages show it: a picture or a text, its label and a note.

    Args:
        picture: A data URL, empty if the item is not a picture.
        text: The item's text, empty if it is not a text.
        label: The item's label.
        id: The user's id of the item, None for a query that is not an item.
        note: A line under the picture, such as a distance.
        good: Whether the label is that of the query; None if that does not apply.

    """

    picture: str
    text: str
    label: str
    id: int | str | None
    note: str = ""
    good: bool | None = None


class Gallery:
    """Makes cards of a version's items from the inputs in the store."""

    def __init__(self, store: Store, version: Version) -> None:
        """Map the inputs and read the catalogue of `version`."""
        self.store, self.items = store, version.artifacts["items"]
        self.catalogue = read_catalogue(store, self.items)
        self.inputs = Inputs(store.paths(version.artifacts["inputs"]))

    def card(self, item_id: int, note: str = "", *, good: bool | None = None) -> Card:
        """The card of the item with the number `item_id`, which is its id if ids are integers."""
        row = int(np.searchsorted(self.catalogue.ids, item_id))  # ids are ascending
        content = self.items.card["content"]
        return Card(
            picture=self._picture(row) if content in PICTURE_CONTENT else "",
            text=self._text(row) if content == "text" else "",
            label=self.catalogue.labels[self.catalogue.label_codes[row]],
            id=self.catalogue.id_at(row),
            note=note,
            good=good,
        )

    def label_code(self, item_id: int) -> int:
        """The label code of the item with id `item_id`."""
        return int(self.catalogue.label_codes[np.searchsorted(self.catalogue.ids, item_id)])

    def _picture(self, row: int) -> str:
        """The input as a data URL; empty if a custom transform turned it into something else."""
        block = self.inputs[np.array([row])]
        is_drawable = block.dtype == np.uint8 and block.ndim == 4 and block.shape[1] in (1, 3)
        if not is_drawable:
            return ""
        pixels = block[0]  # (channels, height, width)
        grey_or_rgb = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
        image = Image.fromarray(grey_or_rgb)
        image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        return picture_url(image)

    def _text(self, row: int) -> str:
        """The text of an item, from the file that has its row."""
        for file in self.items.files:
            if row < file.rows:
                column = pq.read_table(self.store.path(file), columns=["text"])["text"]
                return str(column[row].as_py())
            row -= file.rows
        raise IndexError(row)


def picture_url(image: Image.Image) -> str:
    """A picture as a data URL: JPEG, or PNG where that is smaller, as of drawings."""
    contents = {}
    for name, options in (("png", {}), ("jpeg", {"quality": JPEG_QUALITY})):
        buffer = io.BytesIO()
        image.save(buffer, name, **options)
        contents[name] = buffer.getvalue()
    name, content = min(contents.items(), key=lambda pair: len(pair[1]))
    return f"data:image/{name};base64," + base64.b64encode(content).decode()
