"""Bounds of requests, and the token."""

import ipaddress
from dataclasses import dataclass

from remine.data.errors import InputError

MEGABYTE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one request and of all requests together.

    Attributes:
        k: Neighbours per query.
        batch: Queries in one request.
        answers: Queries times k in one request.
        body: Bytes of a body.
        pixels: Pixels of a picture, checked before it is decoded.
        text: Characters of a text.
        seconds: Seconds until a request times out.
        waiting: Requests at a time.
        token: The token that requests must carry; empty for none.

    Raises:
        InputError: If a bound is out of range, or the token cannot be sent in a header.
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
        for name, maximum in (
            ("k", 9_999),
            ("batch", 100_000),
            ("body", 1 << 30),
            ("waiting", 10_000),
        ):
            value = getattr(self, name)
            if not 1 <= value <= maximum:
                raise InputError(f"--max-{name} is {value}; it must be 1 to {maximum}")
        if not 0.1 <= self.seconds <= 3600:
            raise InputError(f"--timeout is {self.seconds}; it must be 0.1 to 3600 seconds")
        if self.token and not (self.token.isascii() and self.token.isprintable()):
            raise InputError("the token must be printable ASCII")


def is_loopback(host: str) -> bool:
    """Whether `host` is an address of this machine that others cannot reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
