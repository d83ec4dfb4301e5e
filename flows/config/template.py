"""The commented config that `remine init` writes, read from the tables' fields and docstrings."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from inspect import cleandoc
from textwrap import fill
from typing import Any

from remine.data.config_table import (
    choice_docs,
    choices,
    expectation,
    field_doc,
    field_heading,
    field_hints,
)
from remine.flows.config.settings import Config

WIDTH = 100
HEAD = """\
# Configuration of remine: every setting at its default. To change one, remove the "#" at the start
# of its line. The allowed values follow each setting. Relative paths start at this file's folder.
# `remine run --set table.key=value` overrides a setting for one run.
"""


def config_text() -> str:
    """TOML with every table and setting, its docs above it and its limits behind it."""
    return HEAD + "\n".join(_tables("", Config())) + "\n"


def toml(value: Any) -> str:
    """A setting's value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(part)}" for key, part in value.items()) + "}"
    return repr(value)


def _tables(prefix: str, config: Any) -> Iterator[str]:
    for part in fields(config):
        table = getattr(config, part.name)
        if is_dataclass(table):
            name = f"{prefix}{part.name}"
            yield from ["", f"[{name}]", *_comment(cleandoc(type(table).__doc__ or ""))]
            yield from _settings(table)
            yield from _tables(f"{name}.", table)


def _settings(table: Any) -> Iterator[str]:
    kind: Any = type(table)
    for name, hint in field_hints(kind).items():
        value = getattr(table, name)
        if is_dataclass(value):
            continue
        if heading := field_heading(kind, name):
            yield from ["", f"# --- {heading} ---"]
        doc = field_doc(kind, name)
        yield from ["", *_comment(doc)]
        yield from _setting(f"#{name} = {toml(value)}", _limits(hint, doc))


def _limits(hint: Any, doc: str) -> str:
    """The values that a field takes; "" if its docs list them."""
    names = choices(hint)
    return "" if names and set(names) <= set(choice_docs(doc)) else expectation(hint)


def _setting(line: str, limits: str) -> list[str]:
    """A setting with its limits behind it, or above it if the line would be too long."""
    long_line = f"{line}  # {limits}"
    if not limits:
        return [line]
    return [long_line] if len(long_line) <= WIDTH else [*_comment(fill(limits, WIDTH - 2)), line]


def _comment(doc: str) -> list[str]:
    return [f"# {line}".rstrip() for line in doc.splitlines()]
