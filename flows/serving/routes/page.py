"""The files of the page, and /session, which gives a browser the token as a cookie."""

import hashlib
from collections.abc import Callable
from importlib.resources import files

from fastapi import APIRouter, Request
from starlette.responses import Response

from remine.flows.serving.context import ERROR_RESPONSES, context
from remine.flows.serving.guard import COOKIE

MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
FOLDER = "page"
router = APIRouter(include_in_schema=False)
session_router = APIRouter(tags=["state"], responses=ERROR_RESPONSES)


def _read_files() -> dict[str, tuple[bytes, str, str]]:
    """Content, media type and entity tag of each file of the page, by name."""
    by_name = {}
    for file in files("remine.flows.serving").joinpath(FOLDER).iterdir():
        media_type = MEDIA_TYPES.get(file.name.rpartition(".")[2])
        if media_type:
            content = file.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
            by_name[file.name] = content, media_type, tag
    return by_name


def _file_handler(content: bytes, media_type: str, tag: str) -> Callable[[Request], Response]:
    # Revalidated on each load, so that the page is never older than the server.
    headers = {"etag": tag, "cache-control": "no-cache"}

    def send(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, 200, headers, media_type)

    return send


FILES = _read_files()
OPEN_PATHS = frozenset({"/", *(f"/{FOLDER}/{name}" for name in FILES)})
"""Paths that a browser loads before it has the token; they contain no data."""

router.get("/")(_file_handler(*FILES["index.html"]))
for _name, _file in FILES.items():
    router.get(f"/{FOLDER}/{_name}")(_file_handler(*_file))


@session_router.post("/session", status_code=204)
def sign_in(request: Request) -> Response:
    """Set the token as a cookie that no script can read; the request carries the token."""
    response = Response(status_code=204)
    if token := context(request).limits.token:
        response.set_cookie(
            COOKIE,
            token,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
    return response


@session_router.delete("/session", status_code=204)
def sign_out() -> Response:
    """Delete the cookie."""
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response
