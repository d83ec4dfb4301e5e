"""Options that several commands take, and the settings and the store that they name."""

import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remine.data.errors import InputError
from remine.data.store.records import Version
from remine.data.store.store import Store

if TYPE_CHECKING:
    from remine.flows.config.settings import Config

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="TOML file; default ./remine.toml, else the embedded glyphs."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", metavar="TABLE.KEY=VALUE", help="Override one setting; may be repeated."
    ),
]
StoreOption = Annotated[
    str | None,
    typer.Option("--store", help="A store's folder or s3:// URL; default: the config's."),
]
VersionOption = Annotated[
    int, typer.Option("--version", help="A published version; 0: the newest.")
]
ServedOption = Annotated[
    int, typer.Option("--version", help="A published version; 0: the served one.")
]
RoundOption = Annotated[int, typer.Option("--round", help="A round; -1: the last one mined.")]


def settings_of(config: Path | None, overrides: list[str] | None) -> "Config":
    """The settings of the config that was named, or of the default one."""
    from remine.flows.config.settings import find_config, load_config

    return load_config(find_config(config), overrides or ())


def store_of(root: str | None, config: Path | None) -> Store:
    """The store of --store, or of the config."""
    from remine.flows.config.settings import find_config, load_config

    return Store(root or load_config(find_config(config)).store)


def base_of(config: Path | None) -> Path:
    """The folder of the config, where the user's own encoder modules are."""
    from remine.flows.config.settings import find_config

    path = find_config(config)
    return path.absolute().parent if path else Path.cwd()


def opened(root: str | None, config: Path | None, number: int) -> tuple[Store, Version]:
    """The store of --store or --config, and the version of that number, or the newest for 0."""
    store = store_of(root, config)
    return store, _held(store, store.version(number) if number else store.current())


def opened_served(root: str | None, config: Path | None, number: int) -> tuple[Store, Version]:
    """The store of --store or --config, and the version of that number, or the served for 0."""
    from remine.data.store.pins import served_version

    store = store_of(root, config)
    return store, _held(store, store.version(number) if number else served_version(store))


def _held(store: Store, version: Version | None) -> Version:
    if version is None:
        raise InputError(f"{store.address} has no published version yet")
    weakref.finalize(store, store.register_reader(version))  # until the command or the process ends
    return version
