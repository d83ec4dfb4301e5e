"""Rounds that were stopped because the embedding collapsed: why, and under which settings."""

from collections.abc import Mapping
from typing import Any

from remine.data.store.records import Artifact, Version, digest
from remine.data.store.store import Store
from remine.flows.config.settings import Config


def note_stop(store: Store, config: Config, version: Version, reason: str) -> None:
    """Note that the round after `version` could not be trained with these settings."""
    card = {"why": reason, "settings": digest(config.to_json())}
    store.remember(_stop_key(version), Artifact(kind="stopped", files=(), card=card))


def stop_of(store: Store, version: Version) -> Mapping[str, Any] | None:
    """Why the round after `version` was stopped, and the digest of the settings; else None."""
    artifact = store.recall(_stop_key(version))
    return artifact.card if artifact else None


def _stop_key(version: Version) -> str:
    return digest(["stopped", version.digest])
