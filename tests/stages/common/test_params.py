"""Parameters: a section of params.yaml becomes a validated dataclass, with every problem in one message."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from stages.common.errors import ParamsError
from stages.common.params import from_mapping, load_section


@dataclass(frozen=True)
class Filter:
    rate: float
    names: tuple[str, ...]


@dataclass(frozen=True)
class Settings:
    count: int
    kind: Literal["cache", "none"]
    limit: float | None
    enabled: bool
    filter: Filter
    filters: dict[str, Filter]
    note: str = "nothing"

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"count {self.count} is negative")


def values(**changes: Any) -> dict[str, Any]:
    given = {
        "count": 3,
        "kind": "cache",
        "limit": None,
        "enabled": True,
        "filter": {"rate": 1, "names": ["a", "b"]},
        "filters": {"EN": {"rate": 0.5, "names": []}},
    }
    return {name: value for name, value in {**given, **changes}.items() if value != "left out"}


def test_values_become_nested_dataclasses_with_tuples_and_floats() -> None:
    settings = from_mapping(Settings, values(), where="section")
    assert settings == Settings(3, "cache", None, True, Filter(1.0, ("a", "b")), {"EN": Filter(0.5, ())})
    assert isinstance(settings.filter.rate, float)


def test_an_optional_value_is_checked_when_there_is_one() -> None:
    assert from_mapping(Settings, values(limit=2), where="section").limit == 2.0
    with pytest.raises(ParamsError, match=r"limit: expected float, found 'high'"):
        from_mapping(Settings, values(limit="high"), where="section")


def test_unknown_keys_are_errors_that_list_the_valid_ones() -> None:
    with pytest.raises(
        ParamsError, match=r"^section: unknown cuont; valid: count, enabled, filter, filters, kind, limit, note$"
    ):
        from_mapping(Settings, values(cuont=3), where="section")


def test_unknown_keys_of_nested_sections_name_their_place() -> None:
    with pytest.raises(ParamsError, match=r"section: filter: unknown ratte; valid: names, rate; missing rate"):
        from_mapping(Settings, values(filter={"ratte": 1, "names": []}), where="section")
    with pytest.raises(ParamsError, match=r"filters\.EN: unknown x"):
        from_mapping(Settings, values(filters={"EN": {"rate": 1, "names": [], "x": 0}}), where="section")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("count", True, "count: expected int, found True"),
        ("count", 1.5, "count: expected int, found 1.5"),
        ("count", "3", "count: expected int, found '3'"),
        ("count", None, "count: expected int, found None"),
        ("kind", "disk", "kind: 'disk' is not one of cache, none"),
        ("enabled", 1, "enabled: expected bool, found 1"),
        ("filter", 3, "filter: expected a mapping, found 3"),
        ("filter", {"rate": True, "names": []}, "rate: expected float, found True"),
        ("filter", {"rate": 1, "names": "ab"}, "names: expected a list, found 'ab'"),
        ("filter", {"rate": 1, "names": ["a", 2]}, "names[1]: expected str, found 2"),
        ("filters", [], "filters: expected a mapping, found []"),
        ("note", 5, "note: expected str, found 5"),
    ],
)
def test_wrong_types_are_named_with_what_was_expected_and_found(name: str, value: Any, message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        from_mapping(Settings, values(**{name: value}), where="section")
    assert message in str(caught.value)


def test_all_problems_are_reported_at_once_on_one_line() -> None:
    with pytest.raises(ParamsError) as caught:
        from_mapping(Settings, values(count="x", kind="y", enabled="left out", extra=1), where="section")
    message = str(caught.value)
    assert all(part in message for part in ("unknown extra", "count: expected int", "kind: 'y'", "missing enabled"))
    assert "\n" not in message


def test_relations_between_values_are_checked_by_the_dataclass() -> None:
    with pytest.raises(ParamsError, match="section: count -1 is negative"):
        from_mapping(Settings, values(count=-1), where="section")


def test_a_section_is_loaded_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("one: {rate: 2, names: [x]}\nother: 1\n", encoding="utf-8")
    assert load_section(path, "one", Filter) == Filter(2.0, ("x",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("one: [", "not valid YAML"),
        ("- 1", "expected sections of parameters, found list"),
        ("", "expected sections of parameters, found NoneType"),
        ("two: 1\nthree: 2", "section 'one' is missing; sections found: three, two"),
        ("one:", "one: expected a mapping, found None"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_on_one_line(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ParamsError) as caught:
        load_section(path, "one", Filter)
    assert str(path) in str(caught.value) and message in str(caught.value) and "\n" not in str(caught.value)
