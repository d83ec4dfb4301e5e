"""Errors as JSON responses, which never repeat what the request contained."""

import json
import re
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from remine.data.errors import InputError, StoreError

QUOTED_TEXT = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
FIELD_NAME = re.compile(r"[a-z_]{1,30}")
PHRASES = {404: "no such page", 405: "method not allowed", 413: "the body is too large"}


class Refusal(Exception):  # noqa: N818 - reads better than RefusalError where it is raised
    """A request that is refused, with the status and the line that say why."""

    def __init__(self, status: int, detail: str, fields: Sequence[str] = ()) -> None:
        """Refuse with an HTTP status, one line of text, and the names of the wrong fields."""
        super().__init__(detail)
        self.status, self.detail, self.fields = status, detail, list(fields)


def error_response(status: int, detail: str, fields: Sequence[str] = ()) -> Response:
    """The JSON response of a refused request."""
    body = {"detail": detail, "fields": list(fields)}
    headers = {"Retry-After": "1"} if status in (429, 503) else {}
    return Response(json.dumps(body), status, headers, "application/json")


def redact_quotes(message: str) -> str:
    """The first line of an error without the texts in quotes, which may be the request's."""
    return QUOTED_TEXT.sub("(as given)", message.splitlines()[0] if message else "refused")


def field_errors(errors: Sequence[Any]) -> list[str]:
    """One line per error of pydantic: field and message; unknown fields are not named."""
    lines = []
    for error in errors[:10]:
        # A name may come from the request: only what looks like a field of ours is repeated.
        path = [
            str(part)
            for part in error["loc"]
            if isinstance(part, int) or FIELD_NAME.fullmatch(str(part))
        ]
        if error["type"] == "extra_forbidden":  # the last part is the unknown field
            path = path[:-1]
        lines.append(f"{'.'.join(path) or 'request'}: {redact_quotes(error['msg'])}")
    return lines


def add_handlers(app: FastAPI) -> None:
    """Let `app` answer every error as JSON."""

    @app.exception_handler(Refusal)
    async def _refusal(_request: Request, error: Refusal) -> Response:
        return error_response(error.status, error.detail, error.fields)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> Response:
        return error_response(422, "the request does not fit", field_errors(error.errors()))

    @app.exception_handler(InputError)
    async def _input(_request: Request, error: InputError) -> Response:
        message = redact_quotes(str(error))
        return error_response(404 if message.startswith("no item") else 422, message)

    @app.exception_handler(StoreError)
    async def _store(_request: Request, _error: StoreError) -> Response:
        return error_response(503, "a stored file cannot be read; see the server's log")

    @app.exception_handler(HTTPException)
    async def _http(_request: Request, error: HTTPException) -> Response:
        phrase = PHRASES.get(error.status_code, "refused")
        response = error_response(error.status_code, phrase)
        for name, value in (error.headers or {}).items():
            response.headers[name] = value
        return response
