"""The mechanism of config tables: strict values, one-line errors, limits and docs as text."""

import pickle
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, asdict, field, replace
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from pydantic import AfterValidator, Field

from remine.data.config_table import (
    Notation,
    Unit,
    choice_docs,
    choices,
    config_table,
    expectation,
    field_doc,
    field_hints,
)
from remine.data.errors import InputError


def _even(number: int) -> int:
    if number % 2:
        raise ValueError
    return number


@config_table("lab.mouse")
class Mouse:
    """A mouse."""

    tail: Annotated[float, Field(ge=0)] = 1.0
    """Length of the tail."""


@config_table("lab")
class Lab:
    """A laboratory."""

    rooms: Annotated[int, Field(ge=1, le=50_000)] = 3
    """Number of rooms."""
    side: Literal[0] | Annotated[int, Field(ge=8, le=2048)] = 0
    sensor: (
        Literal["auto", "exact"] | Annotated[str, Field(pattern="^by:"), Notation("by:NAME")]
    ) = "auto"
    """Which sensor.
    auto: by the
      weather
    exact: the good one
    """
    reach: Annotated[float, Field(gt=0, le=4), Unit("metres")] = 1.0
    band: tuple[Annotated[int, Field(ge=0, le=9)], Annotated[int, Field(ge=1)]] = (1, 2)
    names: Mapping[Literal["a", "b"], str] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kinds: Annotated[tuple[Literal["x", "y"], ...], Field(min_length=1)] = ("x",)
    pairs: Annotated[int, AfterValidator(_even), Notation("an even number")] = 2
    title: Annotated[str, Field(min_length=1)] = "lab"
    is_open: bool = True
    notes: tuple[str, ...] = ()
    mouse: Mouse = field(default_factory=Mouse)

    def __post_init__(self) -> None:
        if self.rooms > 100 and not self.is_open:
            raise InputError("lab.rooms and lab.is_open contradict each other")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rooms": 0}, "lab.rooms is 0; it must be 1 to 50,000"),
        ({"rooms": "3"}, "lab.rooms is '3'; it must be a whole number, 1 to 50,000"),
        ({"rooms": True}, "lab.rooms is True; it must be a whole number, 1 to 50,000"),
        ({"rooms": 3.0}, "lab.rooms is 3.0; it must be a whole number, 1 to 50,000"),
        ({"side": 7}, "lab.side is 7; it must be 0 or 8 to 2,048"),
        ({"side": False}, "lab.side is False; it must be a whole number, 0 or 8 to 2,048"),
        ({"side": 0.0}, "lab.side is 0.0; it must be a whole number, 0 or 8 to 2,048"),
        ({"sensor": "best"}, "lab.sensor is 'best'; it must be one of auto, exact or by:NAME"),
        ({"sensor": None}, "lab.sensor is None; it must be one of auto, exact or by:NAME"),
        ({"reach": 9}, "lab.reach is 9.0; it must be above 0 and at most 4 (metres)"),
        ({"reach": "9"}, "lab.reach is '9'; it must be a number, above 0 and at most 4 (metres)"),
        ({"reach": float("nan")}, "lab.reach is nan; it must be above 0 and at most 4 (metres)"),
        ({"reach": 10**400}, "lab.reach is inf; it must be above 0 and at most 4 (metres)"),
        (
            {"band": (1,)},
            "lab.band is [1]; it must be a list of 2 whole numbers: 0 to 9, 1 or more",
        ),
        (
            {"band": [1, True]},
            "lab.band is [1, True]; it must be a list of 2 whole numbers: 0 to 9",
        ),
        ({"names": {"c": "x"}}, "unknown key lab.names.c; known: a, b"),
        ({"names": {"a": 3}}, "lab.names is {'a': 3}; it must be a table of texts"),
        ({"names": 3}, "lab.names is 3; it must be a table of texts"),
        ({"tables": {"a": 3}}, "lab.tables is {'a': 3}; it must be a table of tables"),
        ({"kinds": []}, "lab.kinds is []; it must be a list of one or more of x, y"),
        ({"kinds": "x"}, "lab.kinds is 'x'; it must be a list of one or more of x, y"),
        ({"pairs": 3}, "lab.pairs is 3; it must be an even number"),
        ({"title": ""}, "lab.title is ''; it must be a non-empty text"),
        ({"title": 3}, "lab.title is 3; it must be a non-empty text"),
        ({"title": "a\0"}, "lab.title is 'a\\x00'; it must not hold a NUL character"),
        ({"is_open": 1}, "lab.is_open is 1; it must be true or false"),
        ({"notes": [3]}, "lab.notes is [3]; it must be a list of texts"),
        ({"mouse": 3}, "lab.mouse is 3; it must be a table"),
        ({"rooms": 16**5000}, "lab.rooms is a number of thousands of digits; it must be 1 to"),
        ({"room": 3, "rooms": 3}, "unknown key lab.room; known: rooms, side, sensor"),
        ({"rooms": 101, "is_open": False}, "lab.rooms and lab.is_open contradict each other"),
        ({"sensor": "x" * 5000}, f"lab.sensor is '{'x' * 199}...; it must be one of"),
    ],
)
def test_a_violation_is_one_line_with_field_value_and_limits(values, message):
    with pytest.raises(InputError) as error:
        Lab(**values)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_table_in_a_table_gives_its_own_name():
    with pytest.raises(InputError, match=r"^lab\.mouse\.tail is -1\.0; it must be 0 or more$"):
        Lab(mouse=Mouse(tail=-1))


def test_values_are_converted_only_where_nothing_is_lost():
    lab = Lab(rooms=np.int64(4), reach=np.float32(0.5), band=[3, 4], title=np.str_("a"))
    assert lab == Lab(rooms=4, reach=0.5, band=(3, 4), title="a")
    assert [type(value) for value in (lab.rooms, lab.reach, lab.title)] == [int, float, str]
    assert type(Lab(reach=2).reach) is float


def test_a_table_is_a_frozen_dataclass_that_pickles():
    lab = Lab(rooms=7, mouse=Mouse(tail=2.0))
    assert pickle.loads(pickle.dumps(lab)) == lab
    assert replace(lab, rooms=8).mouse == lab.mouse
    assert asdict(lab)["mouse"] == {"tail": 2.0}
    with pytest.raises(FrozenInstanceError):
        lab.rooms = 8
    with pytest.raises(TypeError):
        Lab(7)
    with pytest.raises(InputError, match=r"lab\.rooms is 0"):
        replace(lab, rooms=0)


def test_limits_and_docs_as_text():
    hints = field_hints(Lab)
    assert expectation(hints["reach"]) == "above 0 and at most 4 (metres)"
    assert expectation(hints["is_open"]) == expectation(hints["notes"]) == ""
    assert field_doc(Lab, "rooms") == "Number of rooms."
    assert field_doc(Lab, "side") == ""
    assert choices(hints["sensor"]) == ("auto", "exact")
    assert choices(hints["kinds"]) == ("x", "y")
    assert choices(hints["side"]) == ()
    assert choice_docs(field_doc(Lab, "sensor")) == {
        "auto": "by the weather",
        "exact": "the good one",
    }
