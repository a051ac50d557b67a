"""Presets: differences from common defaults, written into params.yaml, which always holds all active values.

`presets/defaults.yaml` repeats the committed values of the keys that presets set. params.yaml cannot be their only
place: it holds another preset's values after a switch, and may have been committed like that.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.representer import RoundTripRepresenter

from model.printable import printable

PRESETS = Path("presets")
PARAMS = Path("params.yaml")
DEFAULTS = "defaults"
CORPORA = "corpora"  # folder of the ready-made corpora below the presets
DEFAULT_CORPUS = "asterisk-en"
ARCHITECTURE = ("train.model", "train.discriminator", "bert.encoders")  # sections whose keys depend on their values


@dataclass(frozen=True)
class Preset:
    """All values that a preset sets, and the ready-made corpus that it names, if any."""

    values: dict[str, Any]
    corpus: str | None


def preset_names(folder: Path = PRESETS) -> list[str]:
    """Return the names of the presets."""
    return sorted(path.stem for path in folder.glob("*.yaml") if path.stem != DEFAULTS)


def load_preset(name: str, folder: Path = PRESETS) -> Preset:
    """Return a preset: its own values over those of the preset or the defaults that it is `based_on`."""
    changes = dict(YAML().load(folder / f"{name}.yaml"))
    if "based_on" not in changes:  # the defaults, or a preset of an older commit
        corpus = changes.pop("recordings", None)
        return Preset(changes, corpus)
    base = load_preset(changes.pop("based_on"), folder)
    corpus = changes.pop("recordings", base.corpus)
    _merge(base.values, changes)
    return Preset(base.values, corpus)


def _merge(values: MutableMapping[str, Any], changes: Mapping[str, Any], where: str = "") -> None:
    """Write a preset's differences over its base; in ARCHITECTURE it may add keys, and removes those that are null."""
    for key, value in changes.items():
        path = f"{where}.{key}".strip(".")
        if where in ARCHITECTURE and value is None:
            del values[key]
        elif where in ARCHITECTURE:
            values[key] = value
        elif key not in values:
            raise KeyError(f"{path} is not a parameter of presets/{DEFAULTS}.yaml, which has {', '.join(values)}")
        elif isinstance(value, Mapping):
            _merge(values[key], value, path)
        else:
            values[key] = value


def overlay(params: MutableMapping[str, Any], changes: Mapping[str, Any], where: str = "") -> None:
    """Write `changes` over `params` in place, section by section; raises KeyError for a key that they do not have.

    The sections of ARCHITECTURE are replaced as a whole.
    """
    for key, value in changes.items():
        path = f"{where}.{key}".strip(".")
        if key not in params:
            raise KeyError(f"{path} is not a parameter; valid: {', '.join(params)}")
        if isinstance(value, Mapping) and isinstance(params[key], Mapping) and path not in ARCHITECTURE:
            overlay(params[key], value, path)
        else:
            params[key] = value


def corpus_changes(params: Mapping[str, Any], corpus: str | None, folder: Path) -> Mapping[str, Any]:
    """Return the values that select a preset's corpus: the one it names, else the default recordings.

    A preset that names none leaves the user's own recordings alone.
    """
    corpora = {path.stem: YAML().load(path) for path in sorted((folder / CORPORA).glob("*.yaml"))}
    if corpus is None:
        ready_made = {changes["corpus"]["recordings"] for changes in corpora.values()}
        if params["corpus"]["recordings"] not in ready_made:
            return {}
        corpus = DEFAULT_CORPUS
    if corpus not in corpora:
        raise ValueError(f"unknown ready-made corpus {corpus!r}; valid: {', '.join(corpora)}")
    changes: Mapping[str, Any] = corpora[corpus]
    return changes


def load_params(path: Path = PARAMS) -> Any:
    """Return the content of a params.yaml with its comments, for `save_params`."""
    return _yaml().load(path)


def save_params(params: Any, path: Path = PARAMS) -> None:
    """Write the result of `load_params` with its comments and layout."""
    with path.open("w", encoding="utf-8") as stream:
        _yaml().dump(params, stream)


class _Representer(RoundTripRepresenter):
    """Format of written values; a subclass, because DVC uses ruamel's classes, where representers are registered."""

    def represent_nothing(self, value: None) -> Any:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")

    def represent_number(self, value: float) -> Any:
        """Write 1e-05 as 1.0e-05: the stages read YAML 1.1, where 1e-05 is a string."""
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


def switch_preset(name: str, *, folder: Path = PRESETS, params_path: Path = PARAMS) -> None:
    """Write a preset's values into params.yaml, keeping its comments; raises ValueError for an unknown preset."""
    if name not in preset_names(folder):
        raise ValueError(f"unknown preset {name!r}; valid: {', '.join(preset_names(folder))}")
    params = load_params(params_path)
    preset = load_preset(name, folder)
    overlay(params, corpus_changes(params, preset.corpus, folder))
    overlay(params, preset.values)
    params["preset"] = name
    save_params(params, params_path)


def main(argv: Sequence[str] | None = None) -> None:
    """Switch to the preset that a command line names."""
    parser = argparse.ArgumentParser(
        prog="voice-factory preset", description="Write a preset's values into params.yaml."
    )
    parser.add_argument("name", choices=preset_names())
    name = parser.parse_args(argv).name
    switch_preset(name)
    sys.stderr.write(printable(f"params.yaml now holds the preset {name}\n"))


if __name__ == "__main__":
    main()
