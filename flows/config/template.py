"""The commented config that `remine init` writes, made from the dataclasses themselves."""

import typing
from dataclasses import fields, is_dataclass
from typing import Any

from remine.flows.config.settings import Config

HEAD = """\
# remine: every setting at its default. Lines that stay commented out change nothing.
# Relative paths start at this file's folder.
"""


def config_text() -> str:
    """TOML with each table's explanation above its settings."""
    return HEAD + "\n".join(_tables("", Config()))


def _tables(prefix: str, config: Any) -> list[str]:
    lines: list[str] = []
    for part in fields(config):
        value = getattr(config, part.name)
        if is_dataclass(value) and not part.metadata.get("internal"):
            name = f"{prefix}{part.name}"
            lines += ["", f"[{name}]", *_explained(value), *_settings(value)]
            lines += _tables(f"{name}.", value)
    return lines


def _explained(config: Any) -> list[str]:
    doc = typing.cast("str", type(config).__doc__)
    return [f"# {line.strip()}".rstrip() for line in doc.strip().splitlines()]


def _settings(config: Any) -> list[str]:
    values = {f.name: getattr(config, f.name) for f in fields(config)}
    return [f"#{k} = {_toml(v)}" for k, v in values.items() if not is_dataclass(v)]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + "}"
    return repr(value)
