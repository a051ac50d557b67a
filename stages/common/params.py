"""Frozen, validated parameters: one section of params.yaml per stage, one dataclass per section."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from stages.common.errors import ParamsError

ParamsT = TypeVar("ParamsT")


def read_params(path: Path) -> dict[str, Any]:
    """Return params.yaml as a dictionary; raises ParamsError for a missing or malformed file."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run from the project's folder or pass --params") from None
    except yaml.YAMLError as error:
        raise ParamsError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(loaded, dict):
        raise ParamsError(f"{path}: expected sections of parameters, found {type(loaded).__name__}")
    return loaded


def load_section(path: Path, section: str, params_type: type[ParamsT]) -> ParamsT:
    """Return one section of params.yaml as `params_type`; every problem of the section is reported at once."""
    loaded = read_params(path)
    if section not in loaded:
        raise ParamsError(f"{path}: section {section!r} is missing; sections found: {', '.join(sorted(loaded))}")
    return from_mapping(params_type, loaded[section], where=f"{path}: {section}")


def from_mapping(params_type: type[ParamsT], values: Any, *, where: str) -> ParamsT:
    """Build the dataclass `params_type` from plain YAML values, nested dataclasses included.

    Raises ParamsError naming `where`, the unknown keys with the valid ones, missing keys and wrong types. A dataclass
    may check relations between its values in `__post_init__` by raising ValueError.
    """
    if not isinstance(values, Mapping):
        raise ParamsError(f"{where}: expected a mapping, found {values!r}")
    fields = {field.name: field for field in dataclasses.fields(params_type)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(params_type)
    problems = []
    unknown = sorted(set(map(str, values)) - set(fields))
    if unknown:
        problems.append(f"unknown {', '.join(unknown)}; valid: {', '.join(sorted(fields))}")
    arguments = {}
    for name, field in fields.items():
        if name not in values:
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                problems.append(f"missing {name}")
            continue
        try:
            arguments[name] = _convert(hints[name], values[name], f"{where}.{name}")
        except ParamsError as error:
            problems.append(str(error).removeprefix(f"{where}."))
    if problems:
        raise ParamsError(f"{where}: {'; '.join(problems)}")
    try:
        return params_type(**arguments)
    except ValueError as error:
        raise ParamsError(f"{where}: {error}") from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Check `value` against a type hint, turning YAML lists into tuples and integers into floats where asked."""
    if hint is Any:
        return value
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in options:
            return None
        own = next((option for option in options if type(value) is option), None)
        return _convert(own or next(option for option in options if option is not type(None)), value, where)
    if origin is typing.Literal:
        if value not in options:
            raise ParamsError(f"{where}: {value!r} is not one of {', '.join(map(str, options))}")
        return value
    if dataclasses.is_dataclass(hint):
        return from_mapping(hint, value, where=where)  # type: ignore[arg-type]
    if origin is tuple:
        if not isinstance(value, list):
            raise ParamsError(f"{where}: expected a list, found {value!r}")
        return tuple(_convert(options[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise ParamsError(f"{where}: expected a mapping, found {value!r}")
        return {str(key): _convert(options[1], item, f"{where}.{key}") for key, item in value.items()}
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise ParamsError(f"{where}: expected {hint.__name__}, found {value!r}")
    return value
