"""What a request may ask for, and who may ask."""

import ipaddress
from dataclasses import dataclass

from remine.data.errors import InputError

MEGABYTE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one request and of all together.

    k: neighbours. batch: queries in one request. answers: queries times k in one request. body:
    bytes. pixels: of a picture, looked at before it is decoded. text: characters. seconds: until a
    request is given up. waiting: requests at a time. token: who asks must know it; empty for all.
    """

    k: int = 1_000
    batch: int = 4_096
    answers: int = 1_000_000
    body: int = 16 * MEGABYTE
    pixels: int = 16_000_000
    text: int = 10_000
    seconds: float = 30.0
    waiting: int = 512
    token: str = ""

    def __post_init__(self) -> None:
        for name, most in (
            ("k", 9_999),
            ("batch", 100_000),
            ("body", 1 << 30),
            ("waiting", 10_000),
        ):
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise InputError(f"--max-{name} is {value}; it must be 1 to {most}")
        if not 0.1 <= self.seconds <= 3600:
            raise InputError(f"--timeout is {self.seconds}; it must be 0.1 to 3600 seconds")
        if self.token and not (self.token.isascii() and self.token.isprintable()):
            raise InputError("the token must be printable ASCII")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
