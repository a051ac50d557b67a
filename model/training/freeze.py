"""Freeze parts of the synthesizer."""

from __future__ import annotations

from collections.abc import Sequence

from model.settings import ConfigError
from model.synthesizer import Synthesizer


def freeze_parts(synthesizer: Synthesizer, names: Sequence[str]) -> None:
    """Keep the weights of some parts as they are; ConfigError for unknown names, or when nothing is left to train."""
    parts = dict(synthesizer.named_modules())
    if unknown := sorted(name for name in names if not name or name not in parts):
        raise ConfigError(
            f"freeze: no part {', '.join(map(repr, unknown))}; there are {', '.join(dict(synthesizer.named_children()))} "
            "and the parts within them"
        )
    for name in names:
        parts[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in synthesizer.parameters()):
        raise ConfigError("freeze: every part is frozen; leave one to train")
