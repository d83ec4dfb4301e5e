"""The page: a few files that lie beside this one, and the cookie that lets a browser in."""

import hashlib
from collections.abc import Callable
from importlib.resources import files

from fastapi import APIRouter, Request
from starlette.responses import Response

from remine.flows.serving.context import FAULTS, context
from remine.flows.serving.guard import COOKIE

KINDS_OF_FILE = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
FOLDER = "page"
router = APIRouter(include_in_schema=False)
signing = APIRouter(tags=["state"], responses=FAULTS)


def _read() -> dict[str, tuple[bytes, str, str]]:
    """Name to content, media type and tag, of all files of the page: read once, a few kB."""
    found = {}
    for file in files("remine.flows.serving").joinpath(FOLDER).iterdir():
        kind = KINDS_OF_FILE.get(file.name.rpartition(".")[2])
        if kind:
            content = file.read_bytes()
            found[file.name] = content, kind, f'"{hashlib.sha256(content).hexdigest()[:24]}"'
    return found


def _sender(content: bytes, kind: str, tag: str) -> Callable[[Request], Response]:
    # Asked for again each time, so that an upgraded server is never shown through old files.
    headers = {"etag": tag, "cache-control": "no-cache"}

    def send(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, 200, headers, kind)

    return send


FILES = _read()
OPEN = frozenset({"/", *(f"/{FOLDER}/{name}" for name in FILES)})
"""What a browser loads before it can be asked for the token; there is no data in it."""

router.get("/")(_sender(*FILES["index.html"]))
for _name, _file in FILES.items():
    router.get(f"/{FOLDER}/{_name}")(_sender(*_file))


@signing.post("/session", status_code=204)
def sign_in(request: Request) -> Response:
    """Give a browser that brought the token a cookie that no script can read."""
    answer = Response(status_code=204)
    if token := context(request).limits.token:
        answer.set_cookie(
            COOKIE,
            token,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
    return answer


@signing.delete("/session", status_code=204)
def sign_out() -> Response:
    """Take that cookie back."""
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer
