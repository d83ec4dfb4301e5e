"""What the user says about changing pictures while training."""

from dataclasses import asdict, dataclass

from remine.data.errors import InputError

LIMITS = {
    "shift": 0.5,
    "rotate": 180.0,
    "scale": 1.0,
    "crop": 0.9,
    "brightness": 1.0,
    "contrast": 1.0,
    "noise": 1.0,
}


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of each picture at each training step; never of what is embedded and mined.

    Each setting is the most that is done, 0 nothing. shift: of the picture's side. rotate: degrees
    either way. scale: 0.2 draws it at 1/1.2 to 1.2 of its size. crop: 0.3 takes windows of 0.7 to 1
    of the side, at any place, and fits them. flip: mirror half of them, left to right. brightness,
    noise (its standard deviation): of the range from black to white. contrast: 0.2 spreads the
    pixels by 0.8 to 1.2 around their mean.
    """

    shift: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    crop: float = 0.0
    flip: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        for name, high in LIMITS.items():
            if not 0 <= (value := getattr(self, name)) <= high:
                raise InputError(f"augment.{name} is {value}; it must be 0 to {high:g}")

    @property
    def on(self) -> bool:
        """Whether anything is changed."""
        return any(asdict(self).values())

    @property
    def moves(self) -> bool:
        """Whether pixels change their places."""
        return bool(self.shift or self.rotate or self.scale or self.crop or self.flip)
