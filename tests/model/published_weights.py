"""Weights under published names, loaded into a network or a part of one."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from model.checkpoints.published.keys import Kind, LoadReport, fit_reference_state, require_fit, to_own_key


def load_published(
    module: nn.Module, state: Mapping[str, Tensor], *, kind: Kind = "generator", prefix: str = ""
) -> LoadReport:
    """Load weights into a module that sits at `prefix` in the published generator; the state's keys are relative to it.

    Raises CheckpointError, the module untouched, unless every weight fits.
    """
    whole = module
    for name in reversed(to_own_key(prefix).split(".") if prefix else []):
        outer = nn.Module()
        outer.add_module(name, whole)
        whole = outer
    fitting, report = fit_reference_state(
        whole, {f"{prefix}.{key}".removeprefix("."): value for key, value in state.items()}, kind=kind
    )
    require_fit(module, report)
    whole.load_state_dict(fitting)
    return report
