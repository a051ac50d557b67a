"""Settings: YAML values become frozen dataclasses, and all problems of a section are one line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import FrozenInstanceError, dataclass
from typing import Any, Literal

import pytest

from model.settings import ConfigError, PositiveInt, Settings, Share


@dataclass(frozen=True)
class Filter(Settings):
    rate: Share
    names: tuple[str, ...]


@dataclass(frozen=True)
class Sizes(Settings):
    count: PositiveInt
    kind: Literal["cache", "none"]
    limit: float | None
    enabled: bool
    filter: Filter
    filters: dict[str, Filter]
    betas: tuple[float, float] = (0.8, 0.99)
    note: str = "nothing"

    def _conflicts(self) -> Iterator[str]:
        if self.limit is not None and self.count > self.limit:
            yield f"count {self.count} exceeds limit {self.limit}"
        if self.kind == "cache" and not self.enabled:
            yield "kind is cache, but enabled is false"


VALUES: dict[str, Any] = {
    "count": 3,
    "kind": "cache",
    "limit": None,
    "enabled": True,
    "filter": {"rate": 1, "names": ["a", "b"]},
    "filters": {"EN": {"rate": 0.5, "names": []}},
}


def problems(**changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        Sizes.from_dict({**VALUES, **changes}, where="section")
    message = str(caught.value)
    assert message.startswith("section: ") and "\n" not in message
    return message.removeprefix("section: ")


def test_values_become_nested_dataclasses_with_tuples_and_floats() -> None:
    sizes = Sizes.from_dict(VALUES)
    assert sizes == Sizes(3, "cache", None, True, Filter(1.0, ("a", "b")), {"EN": Filter(0.5, ())})
    assert isinstance(sizes.filter.rate, float) and isinstance(sizes.filter.names, tuple)
    with pytest.raises(FrozenInstanceError):
        sizes.count = 4  # type: ignore[misc]


def test_plain_values_come_back_from_settings() -> None:
    sizes = Sizes.from_dict({**VALUES, "limit": 7.5})
    assert sizes.to_dict()["filter"] == {"rate": 1.0, "names": ["a", "b"]}
    assert Sizes.from_dict(sizes.to_dict()) == sizes


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("count", True, "count should be a valid integer, found True"),
        ("count", 1.0, "count should be a valid integer, found 1.0"),
        ("count", "3", "count should be a valid integer, found '3'"),
        ("count", 0, "count should be greater than 0, found 0"),
        ("kind", "disk", "kind should be 'cache' or 'none', found 'disk'"),
        ("limit", "high", "limit should be a valid number, found 'high'"),
        ("limit", float("inf"), "limit should be a finite number, found inf"),
        ("enabled", 1, "enabled should be a valid boolean, found 1"),
        ("filter", 3, "filter should be a mapping, found 3"),
        ("filter", {"rate": float("nan"), "names": []}, "filter.rate should be a finite number, found nan"),
        ("filter", {"rate": 0, "names": "ab"}, "filter.names should be a list, found 'ab'"),
        ("filter", {"rate": 0, "names": ["a", 2]}, "filter.names[1] should be a valid string, found 2"),
        ("filter", {"rate": 0}, "filter.names is missing"),
        ("filter", {"ratte": 1, "names": []}, "filter: unknown ratte; valid: rate, names; filter.rate is missing"),
        ("filters", {"EN": {"rate": 1, "names": [], "x": 0}}, "filters.EN: unknown x; valid: rate, names"),
        ("filters", [], "filters should be a mapping, found []"),
        ("betas", [1, 2, 3], "betas should have at most 2 items after validation, not 3, found [1, 2, 3]"),
        ("note", 5, "note should be a valid string, found 5"),
    ],
)
def test_a_problem_names_the_key_what_is_valid_and_what_was_found(name: str, value: Any, message: str) -> None:
    assert problems(**{name: value}) == message


def test_all_problems_are_reported_at_once() -> None:
    assert problems(cuont=3, count="x", filter={}, extra=1) == (
        "unknown cuont, extra; valid: count, kind, limit, enabled, filter, filters, betas, note; "
        "count should be a valid integer, found 'x'; filter.rate is missing; filter.names is missing"
    )
    assert problems(limit=2, enabled=False) == "count 3 exceeds limit 2.0; kind is cache, but enabled is false"


def test_values_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^Sizes: should be a mapping, found None$"):
        Sizes.from_dict(None)


def test_conflicts_are_found_however_settings_are_built() -> None:
    with pytest.raises(ConfigError, match=r"^count 3 exceeds limit 2\.0$"):
        Sizes(3, "none", 2.0, True, Filter(1.0, ()), {})
