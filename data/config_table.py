"""Tables of the configuration: frozen dataclasses whose fields carry their limits and their docs.

    @config_table("mining")
    class MiningConfig:
        margin: Annotated[float, Field(gt=0, le=4), Unit("squared Euclidean distance")] = 0.2
        \"\"\"Width of the semi-hard window.\"\"\"

Pydantic checks the values, and every violation is an `InputError` of one line:

    mining.margin is 9.0; it must be above 0 and at most 4 (squared Euclidean distance)

Values are never cast, except where nothing is lost: whole numbers to floats, NumPy's numbers to
Python's, lists to tuples. Rules that join several fields stand in `__post_init__`. `remine init`
and `remine losses` print the same limits and docs.
"""

import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache, wraps
from inspect import cleandoc
from numbers import Integral, Real
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform

import pydantic.dataclasses
from pydantic import ConfigDict, Field, ValidationError

from remine.data.errors import InputError

T = TypeVar("T")
STRICT = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid", use_attribute_docstrings=True)
LONGEST = 200
"""Characters of a refused value that a message shows."""
BOUNDS = ("ge", "gt", "le", "lt", "min_length")
UNIONS = (typing.Union, types.UnionType)
NOUNS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}


@dataclass(frozen=True)
class Unit:
    """Annotation of a number: its unit."""

    text: str


@dataclass(frozen=True)
class Notation:
    """Annotation of a text: how it is written, such as module:function."""

    text: str


Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
SquaredDistance = Annotated[float, Field(ge=0, le=4), Unit("squared Euclidean distance")]
UnsquaredDistance = Annotated[float, Field(gt=0, le=2), Unit("unsquared Euclidean distance")]


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def config_table(table: str) -> Callable[[type[T]], type[T]]:
    """Decorator that makes a class a frozen, keyword-only, strictly checked dataclass.

    table: its name in the TOML file, with which messages name its fields; "" for none.
    """

    def decorate(plain: type[T]) -> type[T]:
        kind: Any = pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=STRICT)(plain)
        kind.__config_table__ = table
        kind.__init__ = _with_one_line_errors(kind, kind.__init__)
        return typing.cast("type[T]", kind)

    return decorate


def _with_one_line_errors(kind: type, init: Callable[..., None]) -> Callable[..., None]:
    @wraps(init)
    def checked_init(self: Any, **values: Any) -> None:
        hints = field_hints(kind)
        plain = {
            name: _plain_value(kind, name, value) if name in hints else value
            for name, value in values.items()
        }
        try:
            init(self, **plain)
        except ValidationError as error:
            raise _input_error(kind, error, plain) from None

    return checked_init


def _plain_value(kind: type, name: str, value: Any) -> Any:
    """`value` as Python's own type, where that loses nothing; refuse a scalar of another type.

    Pydantic alone would take true for 1 among choices, and keep a whole number in a float field.
    """
    scalars = _scalar_types(field_hints(kind)[name])
    if isinstance(value, list):
        return tuple(value)
    if type(value) is not bool and isinstance(value, Integral):
        value = _as_float(int(value)) if float in scalars else int(value)
    elif type(value) is not bool and isinstance(value, Real):
        value = float(value)
    elif isinstance(value, str):
        value = str(value)
    if scalars and type(value) not in scalars:
        raise _refusal(kind, name, value)
    if isinstance(value, str) and "\0" in value:
        raise InputError(f"{_key(kind, name)} is {value!r}; it must not hold a NUL character")
    return value


def _as_float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _scalar_types(hint: Any) -> set[type]:
    """The scalar types that a field takes; none for lists and tables."""
    bare, _, _ = annotations(hint)
    if typing.get_origin(bare) is Literal:
        return {type(value) for value in typing.get_args(bare)}
    if typing.get_origin(bare) in UNIONS:
        return {scalar for part in typing.get_args(bare) for scalar in _scalar_types(part)}
    return {bare} & {bool, int, float, str}


def _input_error(kind: type, error: ValidationError, values: Mapping[str, Any]) -> InputError:
    """The first violation as one line; unknown keys come before values out of limits."""
    violations = error.errors(include_url=False)
    unknown = [v for v in violations if v["type"] == "unexpected_keyword_argument"]
    violation = (unknown or violations)[0]
    cause, place = violation.get("ctx", {}).get("error"), violation["loc"]
    if isinstance(cause, InputError):  # of `__post_init__`
        return cause
    if unknown:
        return unknown_key(kind, str(place[0]))
    name = str(place[0])
    if place[-1] == "[key]":
        keys = typing.get_args(typing.get_args(annotations(field_hints(kind)[name])[0])[0])
        return InputError(f"unknown key {_key(kind, name)}.{place[1]}; known: {', '.join(keys)}")
    return _refusal(kind, name, values[name])


def unknown_key(kind: type, name: str) -> InputError:
    """The error for a key that the table `kind` does not have."""
    names = [f.name for f in fields(kind) if not f.metadata.get("internal")]
    return InputError(f"unknown key {_key(kind, name)}; known: {', '.join(names)}")


def _refusal(kind: type, name: str, value: Any) -> InputError:
    hint = field_hints(kind)[name]
    limits, noun = expectation(hint), type_noun(hint)
    is_enough = type(value) in _scalar_types(hint) or limits.startswith(("one of", "a "))
    requirement = limits if limits and is_enough else ", ".join(filter(None, (noun, limits)))
    return InputError(f"{_key(kind, name)} is {_value_text(value)}; it must be {requirement}")


def _value_text(value: Any) -> str:
    try:
        text = repr(list(value) if isinstance(value, tuple) else value)
    except ValueError:  # Python refuses to print integers of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _key(kind: type, name: str) -> str:
    table = kind.__config_table__  # type: ignore[attr-defined]
    return f"{table}.{name}" if table else name


@cache
def field_hints(kind: type) -> dict[str, Any]:
    """The types of a table's fields by name, with their annotations."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {f.name: hints[f.name] for f in fields(kind)}


def field_doc(kind: type, name: str) -> str:
    """The docstring below a field, without its heading; "" if it has none."""
    doc = _docstring(kind, name)
    return doc.partition("\n")[2].strip() if doc.startswith("# ") else doc


def field_heading(kind: type, name: str) -> str:
    """The heading of the group that a field begins: the first line of its docstring, "# ..."."""
    line = _docstring(kind, name).partition("\n")[0]
    return line.removeprefix("# ") if line.startswith("# ") else ""


def _docstring(kind: type, name: str) -> str:
    description = kind.__pydantic_fields__[name].description  # type: ignore[attr-defined]
    return cleandoc(description or "").strip()


def choice_docs(doc: str) -> dict[str, str]:
    """The lines `choice: what it does` of a field's docstring, by choice; indented lines go on."""
    one_line_each = re.sub(r"\n\s+", " ", doc)
    return dict(re.findall(r"^([\w:]+): (.+)$", one_line_each, flags=re.MULTILINE))


def choices(hint: Any) -> tuple[str, ...]:
    """The texts that a field, or the items of its list, take, without free notations."""
    bare, _, _ = annotations(hint)
    if typing.get_origin(bare) is Literal:
        return tuple(value for value in typing.get_args(bare) if isinstance(value, str))
    if typing.get_origin(bare) is tuple or typing.get_origin(bare) in UNIONS:
        return tuple(text for part in typing.get_args(bare) for text in choices(part))
    return ()


def annotations(hint: Any) -> tuple[Any, dict[str, Any], list[Any]]:
    """The bare type of a hint, its bounds by name, and its other annotations."""
    if typing.get_origin(hint) is not Annotated:
        return hint, {}, []
    bare, *metadata = typing.get_args(hint)
    constraints = [c for item in metadata for c in getattr(item, "metadata", [item])]
    bounds = {b: getattr(c, b) for c in constraints for b in BOUNDS if hasattr(c, b)}
    return bare, bounds, metadata


def type_noun(hint: Any) -> str:
    """The type of a field in words, such as "a whole number"."""
    bare, _, _ = annotations(hint)
    origin, parts = typing.get_origin(bare), typing.get_args(bare)
    if origin is tuple:
        return f"a list of {PLURALS[_scalar_types(parts[0]).pop()]}"
    if origin is Mapping:
        return f"a table of {PLURALS.get(parts[1], 'tables')}"
    scalars = _scalar_types(hint)
    # A number that may also be "auto" is a number.
    noun_types = scalars - {str} or scalars
    return NOUNS[noun_types.pop()] if noun_types else "a table"


def expectation(hint: Any) -> str:
    """What values a field takes, as in "it must be 1 to 1,000"; "" if any of its type."""
    bare, bounds, notes = annotations(hint)
    origin, parts = typing.get_origin(bare), typing.get_args(bare)
    texts = {type(note): note.text for note in notes if isinstance(note, Unit | Notation)}
    if Notation in texts:
        return texts[Notation]
    if origin is Literal:
        return _literal_expectation(parts)
    if origin in UNIONS:
        return " or ".join(map(expectation, parts))
    if origin is tuple:
        return _list_expectation(hint, parts)
    if bare is str:
        return "a non-empty text" if bounds else ""
    text = _range(bounds)
    return f"{text} ({texts[Unit]})" if Unit in texts else text


def _literal_expectation(values: tuple[Any, ...]) -> str:
    if not isinstance(values[0], str):
        return _alternatives(values)
    return f"one of {', '.join(values)}" if len(values) > 1 else f'"{values[0]}"'


def _list_expectation(hint: Any, parts: tuple[Any, ...]) -> str:
    items = ", ".join(expectation(part) for part in parts if part is not Ellipsis)
    if not items:
        return ""
    if parts[-1] is Ellipsis:
        return f"a list of one or more of {items.removeprefix('one of ')}"
    return f"{type_noun(hint).replace('of', f'of {len(parts)}')}: {items}"


def _alternatives(values: tuple[Any, ...]) -> str:
    *first, last = map(str, values)
    return f"{', '.join(first)} or {last}" if first else last


def _range(bounds: Mapping[str, Any]) -> str:
    number = {name: _number(value) for name, value in bounds.items()}
    match number:
        case {"ge": low, "le": high}:
            return f"{low} to {high}"
        case {"ge": low} if len(number) == 1:
            return f"{low} or more"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return " and ".join(f"{words[name]} {value}" for name, value in number.items())


def _number(value: float) -> str:
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:f}".rstrip("0")
