"""Validated settings: frozen dataclasses that pydantic builds from YAML or JSON values, all problems reported at once.

Plain dataclasses rather than pydantic's models: pydantic takes 0.25 CPU-seconds to import, and only the process that
reads a file needs it; workers that receive the settings do not.
"""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, get_args, get_type_hints

from annotated_types import Ge, Gt, Interval

if TYPE_CHECKING:
    from pydantic import ValidationError

PositiveInt = Annotated[int, Gt(0)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Share = Annotated[float, Interval(ge=0, le=1)]


class ConfigError(ValueError):
    """Settings that cannot work; the message holds the values and the remedy."""


@dataclass(frozen=True)
class Settings:
    """Base class of settings: types state what a value can be, `_conflicts` what values cannot be together."""

    # strict: a boolean is no integer, a string no number; an integer is accepted as a float
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True, "allow_inf_nan": False}

    def __post_init__(self) -> None:
        if conflicts := list(self._conflicts()):
            raise ConfigError("; ".join(conflicts))

    def _conflicts(self) -> Iterator[str]:
        """Yield what is wrong between values that are valid alone."""
        yield from ()

    @classmethod
    def from_dict(cls, values: Any, *, where: str | None = None) -> Self:
        """Return the settings of YAML or JSON values; raise ConfigError with every problem, on one line after `where`
        (default: the name of the class).
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            # As JSON, where a list is a tuple and a mapping is a dataclass even to strict types. YAML has dates beside.
            return TypeAdapter(cls).validate_json(json.dumps(values, default=str))
        except ValidationError as error:
            raise ConfigError(f"{where or cls.__name__}: {'; '.join(_problems(cls, error))}") from None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; `from_dict` reverses it."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return values


def _problems(settings_type: type[Settings], error: ValidationError) -> list[str]:
    """Return what is wrong, one entry for each key and one for all unknown keys of a section."""
    problems, unknown = [], defaultdict(list)
    for each in error.errors(include_url=False):
        *path, key = each["loc"] or ("",)
        if each["type"] == "unexpected_keyword_argument":
            unknown[tuple(path)].append(str(key))
        elif each["type"] == "missing":
            problems.append(f"{_name(each['loc'])} is missing")
        elif each["type"] == "value_error":
            problems.append(f"{_name(each['loc'])}: {each['ctx']['error']}".removeprefix(": "))
        else:
            requirement = each["msg"].removeprefix("Input ").removeprefix("Tuple ")
            requirement = requirement.replace("a valid array", "a list").replace("an object", "a mapping")
            problems.append(f"{_name(each['loc'])} {requirement}, found {each['input']!r}".lstrip())
    return [*(_unknown_keys(settings_type, path, names) for path, names in unknown.items()), *problems]


def _unknown_keys(settings_type: type[Settings], path: Sequence[str | int], names: Sequence[str]) -> str:
    section: Any = settings_type
    for key in path:
        section = get_type_hints(section)[str(key)] if dataclasses.is_dataclass(section) else get_args(section)[-1]
    valid = ", ".join(field.name for field in dataclasses.fields(section))
    return f"{_name(path)}: unknown {', '.join(names)}; valid: {valid}".removeprefix(": ")


def _name(path: Sequence[str | int]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")
