"""Weights under the names of published Bert-VITS2 1.1 checkpoints: the key map, strict loading, `.pth` files.

Only this module uses the names of published checkpoints. Generator keys are translated by `PREFIXES` and `PARTS`,
weight normalisation by `WEIGHT_NORM_PARTS`; the tables serve both directions.
"""

from __future__ import annotations

import functools
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from model.checkpoints.checkpoint import CheckpointError, State, first_line
from model.config import DiscriminatorConfig, ModelConfig
from model.training.discriminators import DurationDiscriminator, MultiPeriodDiscriminator

Kind = Literal["generator", "discriminator", "duration_discriminator"]

MAX_LISTED_KEYS = 5
SLOTS = {"{n}": (1, 0), "{2n}": (2, 0), "{2n+1}": (2, 1)}  # factor and offset of an index

# (published, ours): whole dotted parts of a key. `{n}` is an index; `{2n}` and `{2n+1}` are positions in published
# lists in which every other item has no weights. Start of a key; the first matching row applies.
PREFIXES: tuple[tuple[str, str], ...] = (
    ("emb_g", "speaker_embedding"),
    ("dec", "decoder"),
    ("ref_enc.proj", "reference_encoder.projection"),
    ("ref_enc", "reference_encoder"),
    ("enc_p.emb", "text_encoder.symbol_embedding"),
    ("enc_p.tone_emb", "text_encoder.tone_embedding"),
    ("enc_p.language_emb", "text_encoder.language_embedding"),
    ("enc_p.bert_proj", "text_encoder.bert_projections.ZH"),
    ("enc_p.ja_bert_proj", "text_encoder.bert_projections.JP"),
    ("enc_p.en_bert_proj", "text_encoder.bert_projections.EN"),
    ("enc_p.proj", "text_encoder.projection"),
    ("enc_p", "text_encoder"),
    ("enc_q.enc", "posterior_encoder.wavenet"),
    ("enc_q.proj", "posterior_encoder.projection"),
    ("enc_q", "posterior_encoder"),
    ("flow.flows.{2n}.enc", "flow.networks.{n}"),
    ("flow.flows.{2n}", "flow.couplings.{n}"),
    ("sdp.flows.0", "stochastic_duration_predictor.flow.affine"),
    ("sdp.flows.{2n+1}.proj", "stochastic_duration_predictor.flow.couplings.{n}.projection"),
    ("sdp.flows.{2n+1}", "stochastic_duration_predictor.flow.couplings.{n}"),
    ("sdp.post_flows.0", "stochastic_duration_predictor.posterior_flow.affine"),
    ("sdp.post_flows.{2n+1}.proj", "stochastic_duration_predictor.posterior_flow.couplings.{n}.projection"),
    ("sdp.post_flows.{2n+1}", "stochastic_duration_predictor.posterior_flow.couplings.{n}"),
    ("sdp.post_pre", "stochastic_duration_predictor.posterior_pre"),
    ("sdp.post_convs", "stochastic_duration_predictor.posterior_convs"),
    ("sdp.post_proj", "stochastic_duration_predictor.posterior_projection"),
    ("sdp.proj", "stochastic_duration_predictor.projection"),
    ("sdp.cond", "stochastic_duration_predictor.speaker_conv"),
    ("sdp", "stochastic_duration_predictor"),
    ("dp.conv_1", "duration_predictor.first_conv"),
    ("dp.norm_1", "duration_predictor.first_norm"),
    ("dp.conv_2", "duration_predictor.second_conv"),
    ("dp.norm_2", "duration_predictor.second_norm"),
    ("dp.proj", "duration_predictor.projection"),
    ("dp.cond", "duration_predictor.speaker_conv"),
    ("dp", "duration_predictor"),
)
# Parts at any position; every matching row applies.
PARTS: tuple[tuple[str, str], ...] = (
    ("convs_sep", "depthwise_convs"),
    ("convs_1x1", "pointwise_convs"),
    ("norms_1", "depthwise_norms"),
    ("norms_2", "pointwise_norms"),
    ("m", "shift"),
    ("logs", "log_scale"),
    ("in_layers", "gate_convs"),
    ("res_skip_layers", "residual_convs"),
    ("cond_layer", "speaker_gates"),
    ("spk_emb_linear", "speaker_projection"),
    ("attn_layers", "attentions"),
    ("self_attn_layers", "self_attentions"),
    ("encdec_attn_layers", "cross_attentions"),
    ("norm_layers_0", "self_attention_norms"),
    ("norm_layers_1", "attention_norms"),
    ("norm_layers_2", "feed_forward_norms"),
    ("ffn_layers.{n}.conv_1", "feed_forwards.{n}.expand"),
    ("ffn_layers.{n}.conv_2", "feed_forwards.{n}.contract"),
    ("ffn_layers", "feed_forwards"),
    ("emb_rel_k", "relative_keys"),
    ("emb_rel_v", "relative_values"),
    ("conv_q", "query"),
    ("conv_k", "key"),
    ("conv_v", "value"),
    ("conv_o", "output"),
)
WEIGHT_NORM_PARTS: tuple[tuple[str, str], ...] = (
    ("weight_g", "parametrizations.weight.original0"),
    ("weight_v", "parametrizations.weight.original1"),
)


@dataclass(frozen=True)
class LoadReport:
    """Result of a strict load, in the checkpoint's own keys; empty lists mean a perfect fit."""

    loaded: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshapen: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Return whether every parameter was loaded and no key was left over."""
        return not (self.missing or self.unexpected or self.misshapen)

    def __str__(self) -> str:
        parts = [f"{self.loaded} keys fit"]
        for name in ("missing", "unexpected", "misshapen"):
            keys = getattr(self, name)
            if keys:
                more = f" and {len(keys) - MAX_LISTED_KEYS} more" if len(keys) > MAX_LISTED_KEYS else ""
                parts.append(f"{len(keys)} {name}: {', '.join(keys[:MAX_LISTED_KEYS])}{more}")
        return "; ".join(parts)


def to_own_key(key: str, kind: Kind = "generator") -> str:
    """Translate a published key, e.g. `enc_p.emb.weight` → `text_encoder.symbol_embedding.weight`."""
    return _translate(key, kind, source=0, target=1)


def to_reference_key(key: str, kind: Kind = "generator") -> str:
    """Translate one of our keys back; the inverse of `to_own_key`."""
    return _translate(key, kind, source=1, target=0)


def fit_reference_state(
    module: nn.Module, state: State, *, kind: Kind = "generator"
) -> tuple[dict[str, Tensor], LoadReport]:
    """Return the published weights that fit a module (it may be on the meta device) by our keys, and the report."""
    translated: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    repeated: list[str] = []  # two spellings of one weight: ambiguous
    for key, tensor in strip_parallel_prefix(state).items():
        own_key = to_own_key(key, kind)
        if own_key in translated:
            repeated.append(key)
        else:
            translated[own_key], names[own_key] = tensor, key
    own = module.state_dict()
    misshapen = {key for key in translated.keys() & own.keys() if translated[key].shape != own[key].shape}
    fitting = {
        key: tensor.to(own[key].dtype) for key, tensor in translated.items() if key in own and key not in misshapen
    }
    report = LoadReport(
        loaded=len(fitting),
        missing=tuple(sorted(to_reference_key(key, kind) for key in own.keys() - translated.keys())),
        unexpected=tuple(sorted([*repeated, *(names[key] for key in translated.keys() - own.keys())])),
        misshapen=tuple(
            f"{names[key]} {tuple(translated[key].shape)} for {tuple(own[key].shape)}" for key in sorted(misshapen)
        ),
    )
    return fitting, report


def require_fit(module: nn.Module, report: LoadReport, source: str = "") -> None:
    """Raise CheckpointError unless every weight fits; the message starts with `source`, such as a file."""
    if not report.ok:
        raise CheckpointError(
            f"{source + ': ' if source else ''}weights do not fit {type(module).__name__}: {report}; "
            "check that the configuration is the one the weights were trained with"
        )


@dataclass(frozen=True)
class PublishedFile:
    """Content of a training's `.pth` file: weights by published keys, epoch or step, learning rate."""

    state: dict[str, Tensor]
    iteration: int = 0
    learning_rate: float | None = None


def read_published_file(path: Path) -> PublishedFile:
    """Read a published `.pth` file: weights under "model", or at the top.

    Only tensors and plain containers are unpickled. Raises CheckpointError for unsafe or damaged files.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file; check the path") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused: it contains code objects besides tensors, or is damaged; get a "
            "weights-only file from a source you trust"
        ) from error
    except Exception as error:  # damage raises half a dozen exception types
        raise CheckpointError(f"{path}: damaged or truncated ({first_line(error)}); download it again") from error
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: no weights found under 'model' or at the top; is it a model checkpoint?")
    iteration, learning_rate = (
        content.get(name) if "model" in content else None for name in ("iteration", "learning_rate")
    )
    return PublishedFile(
        strip_parallel_prefix(state),
        int(iteration) if isinstance(iteration, int | float) else 0,
        float(learning_rate) if isinstance(learning_rate, int | float) else None,
    )


def write_published_file(path: Path, state: State, *, kind: Kind, iteration: int, learning_rate: float) -> None:
    """Write weights with our keys as a published `.pth` file without optimiser state; OSError if the disk is full."""
    published = {to_reference_key(key, kind): tensor.detach().cpu().contiguous() for key, tensor in state.items()}
    try:
        torch.save(
            {"model": published, "iteration": iteration, "optimizer": None, "learning_rate": learning_rate}, path
        )
    except RuntimeError as error:  # raised for a full disk
        raise OSError(f"{path}: cannot be written ({first_line(error)})") from error


def published_discriminators(model: ModelConfig) -> dict[str, nn.Module]:
    """Return the discriminators of the published size for a generator, on the meta device."""
    with torch.device("meta"):
        return {
            "discriminator": MultiPeriodDiscriminator(DiscriminatorConfig()),
            "duration_discriminator": DurationDiscriminator(
                in_channels=model.hidden_channels,
                filter_channels=model.hidden_channels,
                speaker_channels=model.effective_speaker_channels,
            ),
        }


def strip_parallel_prefix(state: State) -> dict[str, Tensor]:
    """Remove the `module.` that data-parallel training puts before every key."""
    if state and all(key.startswith("module.") for key in state):
        return {key.removeprefix("module."): tensor for key, tensor in state.items()}
    return dict(state)


def _translate(key: str, kind: Kind, *, source: int, target: int) -> str:
    """Translate a key; discriminators have published names except for the weight normalisation."""
    if kind == "generator":
        for row in PREFIXES:
            rewritten = _rewrite(key, row[source], row[target], anchored=True)
            if rewritten is not None:
                key = rewritten
                break
    for row in PARTS + WEIGHT_NORM_PARTS if kind == "generator" else WEIGHT_NORM_PARTS:
        key = _rewrite(key, row[source], row[target]) or key
    return key


def _rewrite(key: str, fragment: str, replacement: str, *, anchored: bool = False) -> str | None:
    """Replace the dotted parts of `key` that match `fragment`; None without a match, or at an index off the stride."""
    match = _pattern(fragment, anchored).search(key)
    if match is None:
        return None
    if slot := _slot(fragment):
        scale, offset = SLOTS[slot]
        index, remainder = divmod(int(match[1]) - offset, scale)
        if remainder:
            return None
        scale, offset = SLOTS[_slot(replacement)]
        replacement = replacement.replace(_slot(replacement), str(index * scale + offset))
    return key[: match.start()] + replacement + key[match.end() :]


@functools.cache
def _pattern(fragment: str, anchored: bool) -> re.Pattern[str]:
    body = re.escape(fragment)
    if slot := _slot(fragment):
        body = body.replace(re.escape(slot), r"(\d+)")
    return re.compile(("^" if anchored else r"(?:^|(?<=\.))") + body + r"(?=\.|$)")


def _slot(fragment: str) -> str:
    return next((slot for slot in SLOTS if slot in fragment), "")
