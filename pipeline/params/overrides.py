"""Overrides of params.yaml: a preset and `section.key=value` assignments, checked by the stages' parameter types."""

from __future__ import annotations

import argparse
import importlib
import sys
import typing
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from model.printable import error_line
from model.settings import Settings
from pipeline.params.presets import ARCHITECTURE, PARAMS, PRESETS, load_params, save_params, switch_preset
from stages.common.command import from_mapping, read_params
from stages.common.errors import ParamsError

MAX_CHARACTERS = 4000  # of an override
MAX_DEPTH = 10


class OverrideError(ValueError):
    """Error of an override that is malformed or names no parameter."""


def parse_override(override: str) -> tuple[tuple[str, ...], Any]:
    """Return the path and the value of an override such as `train.optimisation.steps=200`; the value is YAML 1.2."""
    name, equals, text = override.partition("=")
    path = tuple(name.strip().split("."))
    if not equals or not all(path):
        raise OverrideError(
            f"{override!r} is not an override; write section.key=value, such as train.optimisation.steps=200"
        )
    return path, parse_value(text, override)


def parse_value(text: str, override: str) -> Any:
    """Return a value in YAML 1.2; raises OverrideError, which names `override`.

    Size, depth and aliases are checked before a value is built: a few bytes can describe more than the memory holds.
    """
    if len(override) > MAX_CHARACTERS:
        raise OverrideError(f"{override[:40]!r}…: {len(override)} characters, at most {MAX_CHARACTERS} are allowed")
    try:
        _check_structure(text, override)
        return YAML(typ="safe", pure=True).load(text)
    except OverrideError:
        raise
    except (YAMLError, ValueError) as error:  # ValueError: a date or number that Python does not have
        raise OverrideError(f"{override!r}: the value is not valid YAML: {' '.join(str(error).split())}") from None


def _check_structure(text: str, override: str) -> None:
    depth = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None):
            raise OverrideError(f"{override!r}: write values out, without YAML's anchors and aliases")
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise OverrideError(f"{override!r}: lists and mappings are nested more than {MAX_DEPTH} deep")


def apply_overrides(folder: Path, preset: str | None, overrides: Sequence[str]) -> None:
    """Write a preset's values and then the overrides into the params.yaml of `folder`; raises OverrideError.

    This checks names; `check_params` checks values.
    """
    file = folder / PARAMS
    changes = [(parse_override(override), override) for override in overrides]
    if preset is not None:
        try:
            switch_preset(preset, folder=folder / PRESETS, params_path=file)
        except (ValueError, KeyError) as error:
            raise OverrideError(str(error)) from None
    params = load_params(file)
    for (path, value), override in changes:
        _set(params, path, value, override)
    save_params(params, file)


def _set(params: MutableMapping[str, Any], path: Sequence[str], value: Any, override: str) -> None:
    values: Any = params
    for depth, key in enumerate(path):
        where = ".".join(path[:depth])
        if not isinstance(values, MutableMapping):
            raise OverrideError(f"{override!r}: {where} is a value, not a section")
        last = depth == len(path) - 1
        if key not in values and not (last and where in ARCHITECTURE):
            raise OverrideError(f"{override!r}: {where or PARAMS} has no {key!r}; valid: {', '.join(map(str, values))}")
        if last and not where:
            raise OverrideError(
                f"{override!r}: {key} is not a parameter; write section.key=value, and choose a preset by --preset"
            )
        if last:
            values[key] = value
        else:
            values = values[key]


def params_type(section: str) -> type[Settings]:
    """Return the type of a stage's parameters."""
    annotation: type[Settings] = typing.get_type_hints(importlib.import_module(f"stages.{section}.stage").main)[
        "params"
    ]
    return annotation


def check_params(file: Path) -> None:
    """Check every section of a params.yaml against the parameters of its stage; raises ParamsError."""
    for section, values in read_params(file).items():
        if isinstance(values, Mapping):
            from_mapping(params_type(section), values, where=f"{PARAMS}: {section}")


def main(argv: Sequence[str] | None = None) -> int:
    """Check a params.yaml in this process, which imports the stages and with them their process-wide settings."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.params.overrides", description="Check the values of params.yaml."
    )
    parser.add_argument(
        "--params", type=Path, default=PARAMS, metavar="PATH", help="file to check (default: params.yaml)"
    )
    try:
        check_params(parser.parse_args(argv).params)
    except ParamsError as error:
        sys.stderr.write(f"{error_line(error)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
