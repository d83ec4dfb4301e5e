"""Configuration of image augmentation."""

from dataclasses import asdict
from typing import Annotated

from pydantic import Field

from remine.data.config_table import Share, Unit, config_table


@config_table("augment")
class AugmentConfig:
    """Random changes of each picture at each training step. 0 switches a change off.

    Items are embedded and mined unchanged.
    """

    shift: Annotated[float, Field(ge=0, le=0.5), Unit("share of the picture's side")] = 0.0
    """Largest shift in either direction."""
    rotate: Annotated[float, Field(ge=0, le=180), Unit("degrees")] = 0.0
    """Largest rotation in either direction."""
    scale: Share = 0.0
    """Largest change of size: 0.2 scales by a factor from 1/1.2 to 1.2."""
    crop: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    """Largest share of the side that is cut off: 0.3 scales random windows of 0.7 to 1 of the side
    to the full size.
    """
    flip: bool = False
    """Mirror half of the pictures, left to right."""
    brightness: Annotated[Share, Unit("share of the range from black to white")] = 0.0
    """Largest change of brightness in either direction."""
    contrast: Share = 0.0
    """Largest change of contrast: 0.2 scales the differences from the mean by 0.8 to 1.2."""
    noise: Annotated[Share, Unit("share of the range from black to white")] = 0.0
    """Standard deviation of the noise added to each pixel."""

    @property
    def is_on(self) -> bool:
        """Whether any change is switched on."""
        return any(asdict(self).values())

    @property
    def moves_pixels(self) -> bool:
        """Whether any change moves pixels."""
        return bool(self.shift or self.rotate or self.scale or self.crop or self.flip)
