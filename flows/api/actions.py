"""`remine.run` and `remine.compare`: what the commands of the same names do."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remine.flows.api.store_version import StoreVersion, open_store
from remine.flows.config.settings import Config, build_config, read_values
from remine.flows.jobs.console import Console
from remine.flows.jobs.environment import set_environment

if TYPE_CHECKING:
    from remine.flows.compare.comparison_page import Comparison

ConfigSource = str | Path | Mapping[str, Any] | None
"""Path of a TOML file; its tables as a dictionary; or None for the embedded glyphs."""


def run(
    config: ConfigSource = None, overrides: Sequence[str] = (), *, quiet: bool = False
) -> StoreVersion:
    """Run the next cycle, or the rest of one that was killed.

    Args:
        config: A TOML file or its tables as a dictionary, whose relative paths start at the
            current folder; None for the embedded glyphs.
        overrides: Settings that win over the config's, each "table.key=value".
        quiet: Print no progress.

    Returns:
        The last version of the cycle; if refresh.when = "needed" and nothing was to do, the newest.

    Raises:
        InputError: The data or the settings cannot be used; nothing was written.
        StoreBusyError: Another cycle works on the store.
        RoundStoppedError: The embedding collapsed; the versions before stay.

    """
    set_environment()
    settings, path = _settings(config, overrides)
    from remine.flows.orchestration.single_run import run_now

    number = run_now(settings, Console(quiet=quiet), path, list(overrides))
    return open_store(settings.store, number or 0, settings.base)


def compare(
    config: ConfigSource = None, overrides: Sequence[str] = (), *, quiet: bool = False
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
    set_environment()
    from remine.flows.compare.arms import arms_of
    from remine.flows.compare.comparison_page import read_comparison, write_page
    from remine.flows.compare.experiment import compare as run_comparison

    values, path = _values(config, overrides)
    settings, arms = arms_of(values, path)
    folder = run_comparison(settings, arms, Console(quiet=quiet))
    write_page(folder)
    return read_comparison(folder)


def _settings(config: ConfigSource, overrides: Sequence[str]) -> tuple[Config, Path | None]:
    values, path = _values(config, overrides)
    return build_config(values, path), path


def _values(config: ConfigSource, overrides: Sequence[str]) -> tuple[dict[str, Any], Path | None]:
    """The unchecked tables of a config, and the path of its file."""
    if isinstance(config, Mapping):
        return override_values(config, overrides), None
    path = Path(config) if config is not None else None
    return read_values(path, overrides), path
