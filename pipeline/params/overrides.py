"""Parameters of one run: a preset and `section.key=value` overrides over params.yaml, checked against the stages' own
schema.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import typing
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError

from pipeline.params.presets import PARAMS, PRESETS, REPLACED_WHOLE, load_params, save_params, switch
from stages.common.errors import ParamsError
from stages.common.params import from_mapping, read_params


class OverrideError(ValueError):
    """An override is malformed, names no parameter, or has a value that the parameter cannot take."""


def parse(override: str) -> tuple[tuple[str, ...], Any]:
    """Return the path and the value of `train.optimisation.steps=200`; values are YAML 1.2, as in params.yaml."""
    name, equals, text = override.partition("=")
    path = tuple(name.strip().split("."))
    if not equals or not all(path):
        raise OverrideError(
            f"{override!r} is no override; write section.key=value, such as train.optimisation.steps=200"
        )
    try:
        return path, YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise OverrideError(f"{override!r}: the value is no YAML: {' '.join(str(error).split())}") from None


def write(folder: Path, preset: str | None, overrides: Sequence[str]) -> None:
    """Write a preset's values and then the overrides into the params.yaml of `folder`; raises OverrideError.

    Names are checked here, values by the stages' own code (`check`).
    """
    file = folder / PARAMS
    changes = [(parse(override), override) for override in overrides]
    if preset is not None:
        try:
            switch(preset, folder=folder / PRESETS, params_path=file)
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
        if key not in values and not (last and where in REPLACED_WHOLE):
            raise OverrideError(
                f"{override!r}: {where or PARAMS} has no {key!r}; there are {', '.join(map(str, values))}"
            )
        if last and not where:
            raise OverrideError(f"{override!r}: {key} is no parameter; write section.key=value, and a preset as preset")
        if last:
            values[key] = value
        else:
            values = values[key]


def schema(section: str) -> type[Any]:
    """Return the dataclass of a stage's parameters."""
    found: type[Any] = typing.get_type_hints(importlib.import_module(f"stages.{section}.stage").main)["params"]
    return found


def check(file: Path) -> None:
    """Check every section of a params.yaml against the parameters of its stage; raises ParamsError."""
    for section, values in read_params(file).items():
        if isinstance(values, Mapping):
            from_mapping(schema(section), values, where=f"{PARAMS}: {section}")


def main(argv: Sequence[str] | None = None) -> int:
    """Check a params.yaml; a program of its own, since the stages set up their process when they are imported."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.params.overrides", description="Check params.yaml against what the stages take."
    )
    parser.add_argument("--params", type=Path, default=PARAMS, metavar="PATH", help="the file (default: params.yaml)")
    try:
        check(parser.parse_args(argv).params)
    except ParamsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
