"""README.md of an exported encoder: how it is loaded, on what it was trained, how good it is."""

import importlib.metadata
import json
from collections.abc import Mapping
from typing import Any

from remine.flows.config.settings import Config
from remine.flows.query.snapshot import Snapshot
from remine.flows.report.rounds_table import round_rows

PACKAGES = ("remine", "torch", "transformers", "sentence-transformers", "peft")


def card(snapshot: Snapshot, target: str, usage: str) -> str:
    """The text of the card, in Markdown.

    Args:
        snapshot: The exported version.
        target: What it was exported to.
        usage: Python that makes `vectors` of `contents` (or of `pixels`, `inputs`).

    """
    version = snapshot.version
    checkpoint = version.artifacts["checkpoint"]
    library = {"sentence-transformers": target, "transformers": target}.get(target, "pytorch")
    lines = [
        "---",
        f"library_name: {library}",
        "tags: [remine, metric-learning, feature-extraction]",
        "---",
        "",
        f"# Encoder of version {version.number}, cycle {version.cycle}, round {version.round}",
        "",
        (
            f"Maps items ({snapshot.content}) to unit vectors of {_dimensions(snapshot)}"
            " dimensions, in which similar items are near. Trained by remine for"
            f" {checkpoint.card['steps']:,} steps."
        ),
        "",
        "## Use",
        "",
        "`folder` is this folder, `contents` a list of what is embedded.",
        "",
        "```python",
        usage.rstrip(),
        "```",
        "",
        "## Data",
        "",
        *_table(_data(snapshot)),
        "",
        "## Metrics",
        "",
        *_metrics(snapshot),
        "",
        "## Encoder",
        "",
        *_table(_flat(checkpoint.card["encoder"])),
        "",
        "## Settings",
        "",
        "Those that are not the defaults of remine.",
        "",
        *_table(_chosen_settings(version.config)),
        "",
        "## Versions",
        "",
        *_table(_versions()),
        "",
    ]
    return "\n".join(lines)


def _dimensions(snapshot: Snapshot) -> int:
    return int(snapshot.version.artifacts["index"].card["dimensions"])


def _data(snapshot: Snapshot) -> dict[str, Any]:
    items = snapshot.items
    rows: dict[str, Any] = {"items": f"{len(snapshot.catalogue.ids):,}", "content": items.digest}
    for split, counts in items.card["splits"].items():
        rows[split] = f"{counts['items']:,} items, {counts['classes']:,} classes"
    return rows


def _metrics(snapshot: Snapshot) -> list[str]:
    rows = round_rows(snapshot.version)
    if not rows:
        return ["None were measured."]
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    cells = ([_value(row.get(name)) for name in names] for row in rows)
    return [*lines, *("| " + " | ".join(row) + " |" for row in cells)]


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _chosen_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that differ from the defaults."""
    defaults = json.loads(json.dumps(_flat(Config().to_json()), default=list))
    settings = json.loads(json.dumps(_flat(config), default=list))
    return {k: v for k, v in settings.items() if k not in defaults or v != defaults[k]}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level, with dots in the names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _table(rows: Mapping[str, Any]) -> list[str]:
    if not rows:
        return ["Not recorded."]
    return [
        "| | |",
        "|---|---|",
        *(f"| {name} | {_value(value)} |" for name, value in rows.items()),
    ]


def _value(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
