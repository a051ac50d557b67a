"""Presets: overlays in presets/ that are written into params.yaml, so that the active values are always in one place."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.representer import RoundTripRepresenter

PRESETS = Path("presets")
PARAMS = Path("params.yaml")
CORPORA = "corpora"  # folder of the ready-made corpora below the presets
DEFAULT_CORPUS = "asterisk-en"
REPLACED_WHOLE = ("train.model", "train.discriminator", "bert.encoders")


def available(folder: Path = PRESETS) -> list[str]:
    """Return the names of the presets."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load(name: str, folder: Path = PRESETS) -> dict[str, Any]:
    """Return a preset's values; one that is `based_on` another holds its differences alone."""
    values = dict(YAML().load(folder / f"{name}.yaml"))
    if "based_on" not in values:
        return values
    based = load(values.pop("based_on"), folder)
    overlay(based, values)
    return based


def overlay(params: MutableMapping[str, Any], changes: Mapping[str, Any], where: str = "") -> None:
    """Write `changes` over `params` in place, section by section; raises KeyError for a key that they do not have.

    The sections of REPLACED_WHOLE are: their keys differ from architecture to architecture.
    """
    for key, value in changes.items():
        path = f"{where}.{key}".strip(".")
        if key not in params:
            raise KeyError(f"{path} is not a parameter; there are {', '.join(params)}")
        if isinstance(value, Mapping) and isinstance(params[key], Mapping) and path not in REPLACED_WHOLE:
            overlay(params[key], value, path)
        else:
            params[key] = value


def corpus_changes(params: Mapping[str, Any], preset: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """Return the values that bring `params` to a preset's corpus: the one it names, else the default recordings.

    Recordings of one's own are left alone by a preset that names none.
    """
    corpora = {path.stem: YAML().load(path) for path in sorted((folder / CORPORA).glob("*.yaml"))}
    wanted = preset.get("recordings")
    if wanted is None:
        ready_made = {changes["corpus"]["recordings"] for changes in corpora.values()}
        if params["corpus"]["recordings"] not in ready_made:
            return {}
        wanted = DEFAULT_CORPUS
    if wanted not in corpora:
        raise ValueError(f"unknown ready-made corpus {wanted!r}; there are {', '.join(corpora)}")
    changes: Mapping[str, Any] = corpora[wanted]
    return changes


def load_params(path: Path = PARAMS) -> Any:
    """Return a params.yaml with its comments, to be changed and saved."""
    return _yaml().load(path)


def save_params(params: Any, path: Path = PARAMS) -> None:
    """Write what `load_params` gave, as it was laid out."""
    with path.open("w", encoding="utf-8") as stream:
        _yaml().dump(params, stream)


class _Representer(RoundTripRepresenter):
    """How values are written; a class of its own, since ruamel keeps representers in classes that DVC uses too."""

    def represent_nothing(self, value: None) -> Any:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")

    def represent_number(self, value: float) -> Any:
        """Write 1e-05 as 1.0e-05: the stages read YAML 1.1, where the former is a string."""
        mantissa, e, exponent = repr(value).partition("e")
        return self.represent_scalar(
            "tag:yaml.org,2002:float", f"{mantissa}.0e{exponent}" if e and "." not in mantissa else repr(value)
        )


_Representer.add_representer(type(None), _Representer.represent_nothing)
_Representer.add_representer(float, _Representer.represent_number)


def _yaml() -> YAML:
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.width = 120
    yaml.preserve_quotes = True
    return yaml


def switch(name: str, *, folder: Path = PRESETS, params_path: Path = PARAMS) -> None:
    """Write a preset's values into params.yaml, keeping its comments; raises ValueError for an unknown preset."""
    if name not in available(folder):
        raise ValueError(f"unknown preset {name!r}; there are {', '.join(available(folder))}")
    params = load_params(params_path)
    preset = load(name, folder)
    overlay(params, corpus_changes(params, preset, folder))
    overlay(params, {key: value for key, value in preset.items() if key != "recordings"})
    params["preset"] = name
    save_params(params, params_path)


def main(argv: Sequence[str] | None = None) -> None:
    """Switch to the preset that a command line names."""
    parser = argparse.ArgumentParser(
        prog="voice-factory preset", description="Write a preset's values into params.yaml."
    )
    parser.add_argument("name", choices=available())
    name = parser.parse_args(argv).name
    switch(name)
    sys.stderr.write(f"params.yaml now holds the preset {name}\n")


if __name__ == "__main__":
    main()
