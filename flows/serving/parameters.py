"""Refuses query parameters that a route does not have: ignored, they would change the answer."""

from collections.abc import Iterator
from typing import get_origin

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from remine.flows.serving.refusals import FIELD_NAME, Refusal

_PARAMETERS: dict[str, dict[str, bool]] = {}
"""By route: its parameters, and whether each may be repeated."""


async def check_parameters(request: Request) -> None:
    """Refuse unknown parameters, and a repeated one of which only the last would be used.

    Raises:
        Refusal: 422, with the parameter and those that the route has.
    """
    if not request.url.query:
        return
    route: APIRoute = request.scope["route"]
    known = _parameters(route)
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if name not in known:
            # A name may be a text of the request: only what looks like a parameter is repeated.
            shown = name if FIELD_NAME.fullmatch(name) else "(as given)"
            parameters = ", ".join(sorted(known)) or "none"
            raise Refusal(422, f"no parameter {shown} here; known: {parameters}", [shown])
        if not known[name] and names.count(name) > 1:
            raise Refusal(422, f"{name} is given {names.count(name)} times; give it once", [name])


def _parameters(route: APIRoute) -> dict[str, bool]:
    if route.unique_id not in _PARAMETERS:
        _PARAMETERS[route.unique_id] = dict(_fields(route.dependant))
    return _PARAMETERS[route.unique_id]


def _fields(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    """Yield the query parameters of a handler and of all that it depends on."""
    for field in dependant.query_params:
        yield field.alias, get_origin(field.field_info.annotation) is list
    for below in dependant.dependencies:
        yield from _fields(below)
