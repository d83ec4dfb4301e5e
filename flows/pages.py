"""Where a version's page lies."""

from pathlib import Path

from data.store import Store, Version


def page_of(store: Store, version: Version) -> Path:
    """Where the page of `version` lies, if it was written."""
    return store.root / "views" / f"{version.number:08d}" / "report.html"
