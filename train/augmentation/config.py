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
    aspect: Annotated[float, Field(ge=0, le=4)] = 0.0
    """Largest change of the ratio of a window's sides: 0.33 stretches them by up to 4 to 3. With
    `crop` it is the usual random crop of photos (Szegedy et al. 2015, section 6).
    """
    flip: bool = False
    """Mirror half of the pictures, left to right."""
    brightness: Annotated[Share, Unit("share of the range from black to white")] = 0.0
    """Largest change of brightness in either direction."""
    contrast: Share = 0.0
    """Largest change of contrast: 0.2 scales the differences from the mean by 0.8 to 1.2."""
    saturation: Share = 0.0
    """Of colour pictures: largest change of the colours' strength; 0.4 scales it by 0.6 to 1.4."""
    hue: Annotated[float, Field(ge=0, le=0.5), Unit("turns of the colour wheel")] = 0.0
    """Of colour pictures: largest turn of all colours in either direction."""
    erase: Share = 0.0
    """Share of the pictures of which a rectangle of 2 to 33 % of the area is made one random grey
    (random erasing, Zhong et al. 2020).
    """
    noise: Annotated[Share, Unit("share of the range from black to white")] = 0.0
    """Standard deviation of the noise added to each pixel."""

    @property
    def is_on(self) -> bool:
        """Whether any change is switched on."""
        return any(asdict(self).values())

    @property
    def moves_pixels(self) -> bool:
        """Whether any change moves pixels."""
        return any((self.shift, self.rotate, self.scale, self.crop, self.aspect, self.flip))
