"""Presets: overlays in presets/ that are written into params.yaml, so that the active values are always in one place."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

PRESETS = Path("presets")
PARAMS = Path("params.yaml")


def available(folder: Path = PRESETS) -> list[str]:
    """Return the names of the presets."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def overlay(params: MutableMapping[str, Any], changes: Mapping[str, Any], where: str = "") -> None:
    """Write `changes` over `params` in place, section by section; raises KeyError for a key that params does not have.

    Sections under `train.model`, `train.discriminator` and `bert.encoders` are replaced whole: their keys differ
    from architecture to architecture.
    """
    whole = ("train.model", "train.discriminator", "bert.encoders")
    for key, value in changes.items():
        path = f"{where}.{key}".strip(".")
        if key not in params:
            raise KeyError(f"{path} is not a parameter; params.yaml has {', '.join(params)} there")
        if isinstance(value, Mapping) and isinstance(params[key], Mapping) and path not in whole:
            overlay(params[key], value, path)
        else:
            params[key] = value


def switch(name: str, *, folder: Path = PRESETS, params_path: Path = PARAMS) -> None:
    """Write a preset's values into params.yaml, keeping its comments; raises ValueError for an unknown preset."""
    if name not in available(folder):
        raise ValueError(f"unknown preset {name!r}; there are {', '.join(available(folder))}")
    yaml = YAML()
    yaml.width = 120
    yaml.preserve_quotes = True
    yaml.representer.add_representer(type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null"))
    params = yaml.load(params_path)
    overlay(params, yaml.load(folder / f"{name}.yaml"))
    params["preset"] = name
    with params_path.open("w", encoding="utf-8") as stream:
        yaml.dump(params, stream)


def main() -> None:
    """Switch to a preset."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.presets", description="Write a preset's values into params.yaml.")
    parser.add_argument("name", choices=available())
    name = parser.parse_args().name
    switch(name)
    sys.stderr.write(f"params.yaml now holds the preset {name}\n")


if __name__ == "__main__":
    main()
