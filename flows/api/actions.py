"""`remine.run` and `remine.compare`: what the commands of the same names do."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remine.data.store.pins import chosen_version
from remine.data.store.store import Store
from remine.flows.api.store_version import StoreVersion, open_store
from remine.flows.config.settings import ConfigSource, load_config, path_of
from remine.flows.jobs.console import Console
from remine.flows.jobs.environment import engine_environment

if TYPE_CHECKING:
    from remine.flows.compare.comparison_page import Comparison


def run(
    config: str | Path | Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    *,
    if_needed: bool = False,
    quiet: bool = False,
) -> StoreVersion:
    """Run the next cycle, or the rest of one that was killed.

    Args:
        config: A TOML file or its tables as a dictionary, whose relative paths start at the
            current folder; None for the embedded glyphs.
        overrides: Settings that win over the config's, each "table.key=value".
        if_needed: Run only if the source or the settings changed enough, by the table [refresh].
        quiet: Print no progress.

    Returns:
        The version of the round that the cycle serves, with the records of all its rounds; if
        nothing was to do, the served version.

    Raises:
        InputError: The data or the settings cannot be used; nothing was written.
        StoreBusyError: Another cycle works on the store.
        RoundStoppedError: The embedding collapsed; the versions before stay.

    Example:
        >>> import remine
        >>> version = remine.run("products.toml", ["train.steps=2"], quiet=True)
        >>> version.rounds()["round"].to_pylist()
        [0, 1]

    """
    source = _source(config)
    settings = load_config(source, overrides).with_refresh(if_needed=if_needed)
    console = Console(quiet=quiet)
    with engine_environment():
        from remine.flows.orchestration.single_run import run_now

        number = run_now(
            settings,
            console,
            path_of(source),
            list(overrides),
            lambda decision: console.say(decision.line()),
        )
    if number:
        store = Store(settings.store)
        number = chosen_version(store, store.version(number)).number
    return open_store(settings.store, number or 0, settings.base)


def compare(
    config: str | Path | Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    *,
    quiet: bool = False,
) -> "Comparison":
    """Compare offline with in-batch mining on the config's data, at equal budget.

    Args:
        config: As for `run`; the table [compare] names arms, seeds and budget.
        overrides: Settings that win over the config's, each "table.key=value".
        quiet: Print no progress.

    Returns:
        The tables of the comparison and its `verdict()`. The page compare.html is written beside
        them.

    Raises:
        InputError: The data or the settings cannot be used.

    """
    with engine_environment():
        from remine.flows.compare.arms import load_arms
        from remine.flows.compare.comparison_page import read_comparison, write_page
        from remine.flows.compare.experiment import compare as run_comparison

        settings, arms = load_arms(_source(config), overrides)
        folder = run_comparison(settings, arms, Console(quiet=quiet))
    write_page(folder)
    return read_comparison(folder)


def _source(config: str | Path | Mapping[str, Any] | None) -> ConfigSource:
    return Path(config) if isinstance(config, str) else config
