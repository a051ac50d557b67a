"""Frozen parts of the synthesizer."""

from __future__ import annotations

from collections.abc import Sequence

from model.settings import ConfigError
from model.synthesizer import Synthesizer


def freeze_parts(synthesizer: Synthesizer, names: Sequence[str]) -> None:
    """Freeze parts by dotted name; ConfigError for unknown names, or when nothing is left to train."""
    parts = dict(synthesizer.named_modules())
    if unknown := sorted(name for name in names if not name or name not in parts):
        raise ConfigError(
            f"freeze: no part {', '.join(map(repr, unknown))}; valid are "
            f"{', '.join(dict(synthesizer.named_children()))} and parts within them"
        )
    for name in names:
        parts[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in synthesizer.parameters()):
        raise ConfigError("freeze: every part is frozen; leave one to train")
