"""Search spaces of sweeps: parameters with a list or range of values, in the notation of overrides."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from pipeline.params.overrides import MAX_CHARACTERS, OverrideError, parse_override, parse_value

MAX_GRID = 10_000  # combinations
_NUMBER = r"[+-]?[\w+-]+(?:\.\d[\w+-]*)?"  # or a word, which is refused later
_RANGE = re.compile(rf"\s*(?P<low>{_NUMBER})\.\.(?P<high>{_NUMBER})(?P<log>\s+log)?\s*")


@dataclass(frozen=True)
class Dimension:
    """A parameter (`train.optimisation.learning_rate`) with a list of choices or a range from `low` to `high`."""

    name: str
    choices: tuple[Any, ...] = ()
    low: float | int = 0
    high: float | int = 0
    log: bool = False

    @property
    def distribution(self) -> BaseDistribution:
        """Return the Optuna distribution."""
        if self.choices:
            return CategoricalDistribution([_text(choice) for choice in self.choices])
        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def holds(self, value: Any) -> bool:
        """Return whether a value of the distribution is in this dimension."""
        return value in map(_text, self.choices) if self.choices else bool(self.low <= value <= self.high)

    def override(self, value: Any) -> str:
        """Return the override that sets the parameter to a value of the distribution."""
        return f"{self.name}={value if self.choices else _text(value)}"


def _text(value: Any) -> str:
    """Return a value as YAML on one line."""
    return json.dumps(value, ensure_ascii=False)


def parse_space(space: Sequence[str]) -> list[Dimension]:
    """Return the dimensions of `section.key=a,b,c` and ranges such as `section.key=1e-4..1e-2 log`.

    A range between two integers is one of integers. Raises OverrideError.
    """
    dimensions = [_dimension(text) for text in space]
    names = [dimension.name for dimension in dimensions]
    if not dimensions or len(set(names)) < len(names):
        raise OverrideError(
            "a sweep needs parameters to vary, each named once: section.key=1,2,3 or section.key=1e-4..1e-2 log"
        )
    return dimensions


def _dimension(text: str) -> Dimension:
    name, equals, values = text.partition("=")
    path, _ = parse_override(f"{name}{equals}0")  # the name's syntax
    if len(text) <= MAX_CHARACTERS and (bounds := _RANGE.fullmatch(values)):
        low, high = parse_value(bounds["low"], text), parse_value(bounds["high"], text)
        if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high)) or not low < high:
            raise OverrideError(f"{text!r}: a range needs a number and a larger one")
        if bounds["log"] and low <= 0:
            raise OverrideError(f"{text!r}: a logarithmic range starts above 0")
        return Dimension(".".join(path), low=low, high=high, log=bool(bounds["log"]))
    choices = parse_value(f"[{values}]", text)
    if not choices or len({_text(choice) for choice in choices}) < len(choices):
        raise OverrideError(f"{text!r}: list at least one value, each once")
    return Dimension(".".join(path), tuple(choices))


def grid(dimensions: Sequence[Dimension]) -> list[dict[str, Any]]:
    """Return all combinations of choices, the last parameter varying fastest. Raises OverrideError for a range."""
    if ranges := [dimension.name for dimension in dimensions if not dimension.choices]:
        raise OverrideError(
            f"a grid needs lists of values, but {', '.join(ranges)} is a range; "
            "list values, or use --method random or bayesian"
        )
    if (n_combinations := math.prod(len(dimension.choices) for dimension in dimensions)) > MAX_GRID:
        raise OverrideError(
            f"the grid has {n_combinations:.2g} combinations, at most {MAX_GRID} are allowed; use --method random"
        )
    names = [dimension.name for dimension in dimensions]
    return [
        dict(zip(names, values, strict=True))
        for values in itertools.product(*([_text(choice) for choice in dimension.choices] for dimension in dimensions))
    ]


def overrides_of(dimensions: Sequence[Dimension], values: Mapping[str, Any]) -> list[str]:
    """Return the overrides that set a combination of values."""
    return [dimension.override(values[dimension.name]) for dimension in dimensions]
