"""Refusals: one small JSON object, that never repeats what was sent."""

import json
import re
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from remine.data.errors import InputError, StoreError

QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
NAMED = re.compile(r"[a-z_]{1,30}")
PHRASES = {404: "no such page", 405: "not with this method", 413: "the body is too large"}


class Refusal(Exception):  # noqa: N818 - a word, as the rest of ours
    """An answer that is no: a status and a line that says why."""

    def __init__(self, status: int, detail: str, where: Sequence[str] = ()) -> None:
        """`where` names the fields that are wrong."""
        super().__init__(detail)
        self.status, self.detail, self.where = status, detail, list(where)


def refused(status: int, detail: str, where: Sequence[str] = ()) -> Response:
    """The JSON of a refusal."""
    body = {"detail": detail, "fields": list(where)}
    headers = {"Retry-After": "1"} if status in (429, 503) else {}
    return Response(json.dumps(body), status, headers, "application/json")


def unquoted(message: str) -> str:
    """An error's line without what was quoted from the request."""
    return QUOTED.sub("(as given)", message.splitlines()[0] if message else "refused")


def fields_of(errors: Sequence[Any]) -> list[str]:
    """What is wrong where, from pydantic's errors; unknown fields are not named."""
    found = []
    for error in errors[:10]:
        place = [
            str(part)
            for part in error["loc"]
            if isinstance(part, int) or NAMED.fullmatch(str(part))
        ]
        known = place[:-1] if error["type"] == "extra_forbidden" else place
        found.append(f"{'.'.join(known) or 'request'}: {unquoted(error['msg'])}")
    return found


def add_handlers(app: FastAPI) -> None:
    """Let `app` answer every error in this way."""

    @app.exception_handler(Refusal)
    async def _refusal(_request: Request, error: Refusal) -> Response:
        return refused(error.status, error.detail, error.where)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> Response:
        return refused(422, "the request does not fit", fields_of(error.errors()))

    @app.exception_handler(InputError)
    async def _input(_request: Request, error: InputError) -> Response:
        message = unquoted(str(error))
        return refused(404 if message.startswith("no item") else 422, message)

    @app.exception_handler(StoreError)
    async def _store(_request: Request, _error: StoreError) -> Response:
        return refused(503, "a stored file cannot be read; see the server's log")

    @app.exception_handler(HTTPException)
    async def _http(_request: Request, error: HTTPException) -> Response:
        answer = refused(error.status_code, PHRASES.get(error.status_code, "refused"))
        for name, value in (error.headers or {}).items():
            answer.headers[name] = value
        return answer
