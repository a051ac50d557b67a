"""Checkpoints: our own safetensors + JSON format, and reading weights published under the reference's names.

This module is the one place that knows the names of published checkpoints. Generator keys are translated by
`PLACES` and `PARTS`, weight normalisation by `WEIGHT_NORM_PARTS`; both directions come from the same tables.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import pickle
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

Kind = Literal["generator", "discriminator", "duration_discriminator"]
State = Mapping[str, Tensor]

METADATA_NAME = "metadata.json"
FORMAT_VERSION = 1
MAX_LISTED_KEYS = 5
SLOTS = {"{n}": (1, 0), "{2n}": (2, 0), "{2n+1}": (2, 1)}  # factor and offset of an index

# (published, ours): whole dotted parts of a key. `{n}` is an index; `{2n}` and `{2n+1}` are positions in
# published lists that hold something without weights at every other place.
# Where a key starts; the first row that matches counts.
PLACES: tuple[tuple[str, str], ...] = (
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
# What may follow anywhere; every row that matches counts.
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


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used; the message names the file or module and what to do."""


@dataclass(frozen=True)
class LoadReport:
    """What a strict load found, in the names of the checkpoint's own keys; empty lists mean a perfect fit."""

    loaded: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshapen: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every parameter was filled and nothing was left over."""
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


def load_reference_state(
    module: nn.Module, state: State, *, kind: Kind = "generator", prefix: str = "", strict: bool = True
) -> LoadReport:
    """Load weights that carry published names into one of our modules.

    kind: which network the weights belong to. prefix: where `module` sits in the published generator, if it
    is a part of it ("enc_p.encoder"); the state's keys are then relative to it. Without `strict` what fits is
    loaded and the report tells the rest. Raises CheckpointError when strict and imperfect, the module
    untouched.
    """
    own_prefix = to_own_key(prefix, kind) + "." if prefix else ""
    reference_prefix = prefix + "." if prefix else ""
    translated: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    for key, tensor in strip_parallel_prefix(state).items():
        own_key = to_own_key(reference_prefix + key, kind).removeprefix(own_prefix)
        translated[own_key], names[own_key] = tensor, key
    own = module.state_dict()
    misshapen = {key for key in translated.keys() & own.keys() if translated[key].shape != own[key].shape}
    fitting = {key: tensor for key, tensor in translated.items() if key in own and key not in misshapen}
    missing = (to_reference_key(own_prefix + key, kind) for key in own.keys() - translated.keys())
    report = LoadReport(
        loaded=len(fitting),
        missing=tuple(sorted(key.removeprefix(reference_prefix) for key in missing)),
        unexpected=tuple(sorted(names[key] for key in translated.keys() - own.keys())),
        misshapen=tuple(
            f"{names[key]} {tuple(translated[key].shape)} for {tuple(own[key].shape)}"
            for key in sorted(misshapen)
        ),
    )
    if strict and not report.ok:
        raise CheckpointError(
            f"weights do not fit {type(module).__name__}: {report}; check that the configuration "
            "is the one the weights were trained with"
        )
    module.load_state_dict(fitting, strict=False)
    return report


def read_reference_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the weights of a published `.pth` file, names as published, `module.` prefixes removed.

    Only tensors and plain containers are unpickled. CheckpointError for unsafe or damaged files.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file; check the path") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused, it holds code objects besides tensors, or is damaged; get a "
            "weights-only file from a source you trust"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: damaged or truncated ({_first_line(error)}); download it again"
        ) from error
    state = content.get("model", content) if isinstance(content, dict) else None
    if (
        not isinstance(state, dict)
        or not state
        or not all(isinstance(value, Tensor) for value in state.values())
    ):
        raise CheckpointError(
            f"{path}: no weights found under 'model' or at the top; is it a model checkpoint?"
        )
    return strip_parallel_prefix(state)


def strip_parallel_prefix(state: State) -> dict[str, Tensor]:
    """Remove the `module.` that data-parallel training puts before every key."""
    if state and all(key.startswith("module.") for key in state):
        return {key.removeprefix("module."): tensor for key, tensor in state.items()}
    return dict(state)


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by network name and key, and the JSON metadata saved with them."""

    tensors: dict[str, dict[str, Tensor]]
    metadata: dict[str, Any]


def save_checkpoint(folder: Path, *, tensors: Mapping[str, State], metadata: Mapping[str, Any]) -> None:
    """Write networks and metadata to `folder`, replacing the checkpoint that it holds in one step.

    Tensor files are named by their content, and the metadata file that lists them is renamed into place last:
    a kill at any moment leaves the old checkpoint or the new one, never a mixture. Same content, same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, dict[str, str]] = {}
    for name, state in tensors.items():
        if not re.fullmatch(r"[A-Za-z0-9_]+", name):
            raise ValueError(f"{name!r} cannot name a network; use letters, digits and underscores")
        temporary = folder / f".{name}.tmp"
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}, temporary)
        digest = _sha256(temporary)
        files[name] = {"file": f"{name}-{digest[:16]}.safetensors", "sha256": digest}
        _commit(temporary, folder / files[name]["file"])
    temporary = folder / f".{METADATA_NAME}.tmp"
    content = {"format_version": FORMAT_VERSION, "files": files, "metadata": dict(metadata)}
    temporary.write_text(
        json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    _commit(temporary, folder / METADATA_NAME)
    _remove_superseded(folder, files)


def load_checkpoint(folder: Path, names: Collection[str] | None = None) -> Checkpoint:
    """Read a checkpoint of `save_checkpoint`, all networks or only `names`.

    Raises CheckpointError naming the file and the remedy when anything is missing, truncated or altered.
    """
    content = _read_metadata(folder / METADATA_NAME)
    files = content["files"]
    if absent := sorted(set(names or ()) - set(files)):
        raise CheckpointError(f"{folder}: has no {', '.join(absent)}; it holds {', '.join(sorted(files))}")
    tensors = {}
    for name in sorted(files if names is None else names):
        path = folder / files[name]["file"]
        if not path.is_file():
            raise CheckpointError(
                f"{path}: missing though {METADATA_NAME} lists it; restore the whole folder"
            )
        if _sha256(path) != files[name]["sha256"]:
            raise CheckpointError(
                f"{path}: truncated or altered (checksum differs); restore it or train again"
            )
        tensors[name] = load_file(path)
    return Checkpoint(tensors, content["metadata"])


def _translate(key: str, kind: Kind, *, source: int, target: int) -> str:
    """Discriminators keep their published names; only the weight normalisation is spelled differently."""
    if kind == "generator":
        for row in PLACES:
            place = _rewrite(key, row[source], row[target], anchored=True)
            if place is not None:
                key = place
                break
    for row in PARTS + WEIGHT_NORM_PARTS if kind == "generator" else WEIGHT_NORM_PARTS:
        key = _rewrite(key, row[source], row[target]) or key
    return key


def _rewrite(key: str, fragment: str, replacement: str, *, anchored: bool = False) -> str | None:
    """Replace the dotted parts of `key` that match `fragment`; None if they don't, or are off the stride."""
    found = _pattern(fragment, anchored).search(key)
    if found is None:
        return None
    if slot := _slot(fragment):
        scale, offset = SLOTS[slot]
        index, remainder = divmod(int(found[1]) - offset, scale)
        if remainder:
            return None
        scale, offset = SLOTS[_slot(replacement)]
        replacement = replacement.replace(_slot(replacement), str(index * scale + offset))
    return key[: found.start()] + replacement + key[found.end() :]


@functools.cache
def _pattern(fragment: str, anchored: bool) -> re.Pattern[str]:
    body = re.escape(fragment)
    if slot := _slot(fragment):
        body = body.replace(re.escape(slot), r"(\d+)")
    return re.compile(("^" if anchored else r"(?:^|(?<=\.))") + body + r"(?=\.|$)")


def _slot(fragment: str) -> str:
    return next((slot for slot in SLOTS if slot in fragment), "")


def _read_metadata(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path}: missing; no checkpoint was ever finished here, check the folder"
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: unreadable ({_first_line(error)}); restore it or train again"
        ) from error
    if not isinstance(content, dict) or content.get("format_version") != FORMAT_VERSION:
        found = content.get("format_version") if isinstance(content, dict) else None
        raise CheckpointError(
            f"{path}: format version {found}, expected {FORMAT_VERSION}; use the program version "
            "that wrote it"
        )
    return content


def _commit(temporary: Path, final: Path) -> None:
    """Make a finished temporary file durable under its final name."""
    _sync(temporary)
    os.replace(temporary, final)
    _sync(final.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_superseded(folder: Path, files: Mapping[str, Mapping[str, str]]) -> None:
    """Delete earlier versions of the networks just written; other files in the folder are not ours."""
    current = {entry["file"] for entry in files.values()}
    for path in folder.glob("*.safetensors"):
        match = re.fullmatch(r"(\w+)-[0-9a-f]{16}\.safetensors", path.name)
        if match and match[1] in files and path.name not in current:
            path.unlink()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
