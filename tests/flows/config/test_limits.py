"""Every setting of every table: both sides of its limits, its choices, its docs, its default."""

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin

import pytest

from remine.data.config_table import annotations, choices, expectation, field_doc, field_hints
from remine.data.errors import InputError
from remine.flows.config.settings import Config
from remine.flows.config.template import config_text
from remine.mining.in_batch.config import MINERS
from remine.mining.suspects import SuspectConfig
from remine.train.config import Miner
from remine.train.encoders.config import BuiltinEncoder, PretrainedEncoder
from remine.train.losses.config import LOSSES, SYNTHESES, GeneratorsConfig, LossesConfig


def tables(table: Any) -> Iterator[Any]:
    yield table
    for part in fields(table):
        if is_dataclass(value := getattr(table, part.name)):
            yield from tables(value)


TABLES = [*list(tables(Config()))[1:], SuspectConfig()]
SETTINGS = [
    (table, name, hint)
    for table in TABLES
    for name, hint in field_hints(type(table)).items()
    if not is_dataclass(getattr(table, name))
]
BOUNDED = [setting for setting in SETTINGS if annotations(setting[2])[0] in (int, float)]


def names(settings: list[Any]) -> list[str]:
    return [f"{table.__config_table__}.{name}" for table, name, _ in settings]


def refusal(table: Any, name: str, value: Any) -> str:
    """The message if `value` is outside the limits of a field, "" if it is not."""
    try:
        type(table)(**{name: value})
    except InputError as error:
        # Rules across fields may refuse a value that is within its own limits.
        return str(error) if f"{name} is {value}; it must be" in str(error) else ""
    return ""


@pytest.mark.parametrize(("table", "name", "hint"), BOUNDED, ids=names(BOUNDED))
def test_limits_hold_just_inside_and_just_outside(table, name, hint):
    kind, bounds, _ = annotations(hint)
    for bound, limit in bounds.items():
        outward = -math.inf if bound in ("ge", "gt") else math.inf
        step = 1 if kind is int else abs(math.nextafter(limit, outward) - limit)
        outside = kind(limit + math.copysign(step, outward))
        window = kind(limit - math.copysign(step, outward))
        assert refusal(table, name, outside).endswith(f"it must be {expectation(hint)}")
        assert not refusal(table, name, window)
        assert bool(refusal(table, name, kind(limit))) == (bound in ("gt", "lt"))


@pytest.mark.parametrize("setting", SETTINGS, ids=names(SETTINGS))
def test_a_setting_takes_its_default_and_no_other_type(setting):
    table, name, _ = setting
    kind = type(table)
    default = getattr(table, name)
    assert getattr(kind(**{name: default}), name) == default
    for value in (None, object(), {1}, b"", 1.5 if isinstance(default, int) else "one", [None]):
        with pytest.raises(InputError, match=rf"{name} is .*; it must be ") as error:
            kind(**{name: [value] if isinstance(default, str) and value == "one" else value})
        assert "\n" not in str(error.value)


CHOICES = [setting for setting in SETTINGS if choices(setting[2])]


@pytest.mark.parametrize(("table", "name", "hint"), CHOICES, ids=names(CHOICES))
def test_choices_are_taken_and_others_refused(table, name, hint):
    is_list = get_origin(annotations(hint)[0]) is tuple
    for choice in choices(hint):
        assert not refusal(table, name, [choice] if is_list else choice)
    with pytest.raises(
        InputError, match=rf"{name} is .*'another'.*; it must be .*{choices(hint)[0]}"
    ):
        type(table)(**{name: ["another"] if is_list else "another"})


def test_every_setting_and_table_has_docs():
    for table, name, _ in SETTINGS:
        assert len(field_doc(type(table), name)) > 10, name
    for table in TABLES:
        assert (type(table).__doc__ or "").split("\n")[0].endswith("."), table


def test_a_table_is_named_by_its_place():
    def walk(prefix: str, table: Any) -> None:
        for part in fields(table):
            if is_dataclass(value := getattr(table, part.name)):
                assert value.__config_table__ == f"{prefix}{part.name}"
                walk(f"{prefix}{part.name}.", value)

    walk("", Config())


def test_the_template_has_every_limit():
    text = config_text()
    for table, name, hint in SETTINGS[:-2]:
        if annotations(hint)[0] in (int, float):
            assert f"\n#{name} = {getattr(table, name)!r}" in text
            assert expectation(hint) in text


def test_names_that_stand_twice_agree():
    assert get_args(Miner) == ("auto", *MINERS)
    assert set(get_args(PretrainedEncoder)) < set(get_args(BuiltinEncoder))
    assert [*LOSSES, "pml"] == [part.name for part in fields(LossesConfig)]
    assert list(SYNTHESES) == [part.name for part in fields(GeneratorsConfig)]
