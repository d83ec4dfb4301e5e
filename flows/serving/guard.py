"""ASGI middleware that checks host, token and body size, sets headers and limits time."""

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
from remine.flows.serving.limits import Limits
from remine.flows.serving.refusals import error_response

COOKIE = "remine_token"
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; object-src 'none';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}


class _TooLarge(Exception):  # noqa: N818
    """The body is larger than its limit."""


class Guard:
    """ASGI middleware around the app, outside of everything that reads a request."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        counters: Counters,
        hosts: frozenset[str] | None,
        open_paths: Callable[[str], bool],
    ) -> None:
        """Wrap `app`.

        Args:
            app: The app.
            limits: Bounds of requests, and the token.
            counters: Metrics to update.
            hosts: Host names that a request may use; None for any.
            open_paths: Whether a path is answered without the token.
        """
        self.app, self.limits, self.counters = app, limits, counters
        self.hosts, self.open_paths = hosts, open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request to the app, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        # The status is noted as it is sent: after that, an error cannot become a response.
        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        self.counters.waiting += 1
        try:
            response = self._refusal(scope) or await self._run(
                scope, receive, send_with_headers, lambda: status
            )
            if response is not None:
                await response(scope, receive, send_with_headers)
        finally:
            self.counters.waiting -= 1
            # The route's pattern and a known method, so that requests cannot create new labels.
            route = getattr(scope.get("route"), "path", "none")
            method = (
                scope["method"] if scope["method"] in ("GET", "POST", "HEAD", "DELETE") else "other"
            )
            self.counters.request(method, route, status, time.perf_counter() - start)

    async def _run(
        self, scope: Scope, receive: Receive, send: Send, status: Callable[[], int]
    ) -> Response | None:
        """Run the app; returns an error response if it failed before it sent a status."""
        try:
            await asyncio.wait_for(
                self.app(scope, self._limit_body(receive), send), self.limits.seconds
            )
        except TimeoutError:
            return None if status() else error_response(503, "the request timed out")
        except _TooLarge:
            return None if status() else error_response(413, "the body is too large")
        except ClientDisconnect:  # before the whole body arrived
            return None if status() else error_response(400, "the request ended early")
        except Exception:  # noqa: BLE001 - the server must survive any request
            traceback.print_exc(file=sys.stderr)
            message = "an internal error; see the server's log"
            return None if status() else error_response(500, message)
        return None

    def _refusal(self, scope: Scope) -> Response | None:
        """An error response by the request's headers alone, or None."""
        headers = Headers(scope=scope)
        if self.hosts is not None and _host(headers.get("host", "")) not in self.hosts:
            # DNS rebinding: a foreign page may have pointed its own name at this machine.
            return error_response(421, "this server answers only to its own name")
        if self.counters.waiting > self.limits.waiting:
            return error_response(429, "too many requests at a time")
        if (
            self.limits.token
            and not self.open_paths(scope["path"])
            and not self._has_token(headers)
        ):
            response = error_response(401, "give the token as `Authorization: Bearer`")
            response.headers["www-authenticate"] = "Bearer"
            return response
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            return error_response(400, "content-length is not a number")
        # int() raises on very long digit strings, which are too large in any case.
        if len(length) > 18 or int(length) > self.limits.body:
            return error_response(413, "the body is too large")
        return None

    def _has_token(self, headers: Headers) -> bool:
        """Whether the request carries the token, compared in constant time."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = _cookie(headers.get("cookie", ""))
        return hmac.compare_digest(token.strip().encode(), self.limits.token.encode())

    def _limit_body(self, receive: Receive) -> Receive:
        """Count the bytes as they arrive, since a body may come without a length."""
        total = 0

        async def receive_counted() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > self.limits.body:
                raise _TooLarge
            return message

        return receive_counted


def _host(value: str) -> str:
    """The host name of a Host header, without the port."""
    name, _, port = value.rpartition(":")
    return (name if port.isdigit() and name else value).strip("[]").lower()


def _cookie(value: str) -> str:
    """The token in a Cookie header, or ""."""
    try:
        cookie: Any = SimpleCookie(value).get(COOKIE)
    except CookieError:
        return ""
    return cookie.value if cookie else ""
