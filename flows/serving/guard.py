"""What every request passes before anything reads it: who asks, how much, for how long."""

import asyncio
import hmac
import sys
import time
import traceback
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from remine.flows.serving.counters import Counters
from remine.flows.serving.faults import refused
from remine.flows.serving.limits import Limits

COOKIE = "remine_token"
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; object-src 'none';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}


class _TooLarge(Exception):  # noqa: N818
    """The body went over its bound."""


class Guard:
    """An ASGI layer around the app. hosts: names that a request may call us by; None for any.

    open_paths: what answers without the token.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        counters: Counters,
        hosts: frozenset[str] | None,
        open_paths: Callable[[str], bool],
    ) -> None:
        """Wrap `app`."""
        self.app, self.limits, self.counters = app, limits, counters
        self.hosts, self.open_paths = hosts, open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        self.counters.waiting += 1
        try:
            answer = self._refusal(scope) or await self._passed(
                scope, receive, sent, lambda: status
            )
            if answer is not None:
                await answer(scope, receive, sent)
        finally:
            self.counters.waiting -= 1
            route = getattr(scope.get("route"), "path", "none")
            method = (
                scope["method"] if scope["method"] in ("GET", "POST", "HEAD", "DELETE") else "other"
            )
            self.counters.request(method, route, status, time.perf_counter() - start)

    async def _passed(
        self, scope: Scope, receive: Receive, send: Send, status: Callable[[], int]
    ) -> Response | None:
        """Run the app; a refusal where it was given up before it answered."""
        try:
            await asyncio.wait_for(
                self.app(scope, self._counted(receive), send), self.limits.seconds
            )
        except TimeoutError:
            return None if status() else refused(503, "the answer took too long and was given up")
        except _TooLarge:
            return None if status() else refused(413, "the body is too large")
        except ClientDisconnect:  # before its body was whole
            return None if status() else refused(400, "the request broke off")
        except Exception:  # noqa: BLE001 - the last line of defence: the server goes on
            traceback.print_exc(file=sys.stderr)
            return None if status() else refused(500, "a fault of ours; see the server's log")
        return None

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if self.hosts is not None and _host(headers.get("host", "")) not in self.hosts:
            # A page elsewhere may have pointed its own name at this machine.
            return refused(421, "this server answers only to its own name")
        if self.counters.waiting > self.limits.waiting:
            return refused(429, "too many requests at a time")
        if self.limits.token and not self.open_paths(scope["path"]) and not self._known(headers):
            answer = refused(401, "give the token as `Authorization: Bearer`")
            answer.headers["www-authenticate"] = "Bearer"
            return answer
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            return refused(400, "content-length is no number")
        if len(length) > 18 or int(length) > self.limits.body:
            return refused(413, "the body is too large")
        return None

    def _known(self, headers: Headers) -> bool:
        """Whether the token is given, in time that does not tell how much of it is right."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            given = _cookie(headers.get("cookie", ""))
        return hmac.compare_digest(given.strip().encode(), self.limits.token.encode())

    def _counted(self, receive: Receive) -> Receive:
        total = 0

        async def counted() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > self.limits.body:
                raise _TooLarge
            return message

        return counted


def _host(value: str) -> str:
    """The name in a Host header, without the port."""
    name, _, port = value.rpartition(":")
    return (name if port.isdigit() and name else value).strip("[]").lower()


def _cookie(value: str) -> str:
    try:
        found: Any = SimpleCookie(value).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""
