"""Warm start: transfer the weights of a finished voice to new networks, and report what was transferred.

Tensors of the same name and shape are copied. Embedding tables are transferred by name, row by row: symbols, tones,
languages and speakers keep their vectors at any position in the new tables. Tensors that do not fit are left
initialised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.checkpoints.checkpoint import CheckpointError, load_checkpoint
from model.config import ModelConfig
from model.synthesizer import Synthesizer
from model.text.symbols import SymbolTable

SYMBOL_TABLE = "text_encoder.symbol_embedding.weight"
TONE_TABLE = "text_encoder.tone_embedding.weight"
LANGUAGE_TABLE = "text_encoder.language_embedding.weight"
SPEAKER_TABLE = "speaker_embedding.weight"
# Weight normalisation stores length and direction, which are only meaningful together.
NORM_PARTS = (".parametrizations.weight.original0", ".parametrizations.weight.original1")
# Parts with several architectures, between which tensors of equal name and shape are unrelated.
KINDS = ("decoder", "flow")
MAX_LISTED_NAMES = 12


@dataclass(frozen=True)
class Vocabulary:
    """Names of the embedding tables' rows: symbols, tones and languages, and the speakers by id."""

    symbols: SymbolTable
    speakers: tuple[str, ...]


@dataclass
class PartReport:
    """Result of a transfer for one part of the networks, by tensor names.

    transferred: copied whole. partly: table → names of the rows carried over and of the new rows. fresh: left
    initialised. unused: only in the base.
    """

    transferred: list[str] = field(default_factory=list)
    partly: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class TransferReport:
    """Result of a transfer per part of the networks ("text_encoder", "discriminator", …), with notes on settings."""

    base: str
    parts: Mapping[str, PartReport]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"base voice {self.base}"]
        for name, part in self.parts.items():
            counts = (
                ("transferred", part.transferred),
                ("partly", part.partly),
                ("fresh", part.fresh),
                ("unused in the base", part.unused),
            )
            lines.append(f"  {name}: " + ", ".join(f"{len(listed)} {label}" for label, listed in counts if listed))
            lines += [f"    fresh: {_shortened(part.fresh)}"] if part.fresh else []
            lines += [f"    unused in the base: {_shortened(part.unused)}"] if part.unused else []
            for table, rows in part.partly.items():
                lines += [
                    f"    {table}: {len(names)} {kind}: {_shortened(names)}" for kind, names in rows.items() if names
                ]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values: counts and names per part."""
        return {
            "base": self.base,
            "notes": list(self.notes),
            "parts": {
                name: {
                    "transferred": len(part.transferred),
                    "partly": part.partly,
                    "fresh": part.fresh,
                    "unused": part.unused,
                }
                for name, part in self.parts.items()
            },
        }


def transfer(
    base: Path,
    synthesizer: Synthesizer,
    vocabulary: Vocabulary,
    *,
    discriminator: nn.Module | None = None,
    duration_discriminator: nn.Module | None = None,
) -> TransferReport:
    """Transfer what fits from a voice folder to the given networks, in place.

    A table row without a counterpart keeps its initialisation; a new speaker's is the mean of the base's speakers.
    Raises CheckpointError for a folder that is damaged or not a voice.
    """
    checkpoint = load_checkpoint(base)
    metadata = checkpoint.metadata
    try:
        base_vocabulary = Vocabulary(SymbolTable.from_dict(metadata["symbols"]), tuple(metadata["speakers"]))
        base_model = ModelConfig.from_dict(metadata["model"]).to_dict()
        weights = checkpoint.tensors["synthesizer"]
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{base}: not a voice ({error}); give the folder of a trained or imported one") from error
    parts: dict[str, PartReport] = {}
    rows = table_rows(base_vocabulary, vocabulary)
    other_kind = tuple(f"{part}." for part in KINDS if base_model[part] != getattr(synthesizer.config, part))
    _transfer_network(
        synthesizer, weights, rows, other_kind, lambda key: parts.setdefault(key.split(".")[0], PartReport())
    )
    for name, network in (("discriminator", discriminator), ("duration_discriminator", duration_discriminator)):
        if network is not None or name in checkpoint.tensors:
            report = parts[name] = PartReport()
            _transfer_network(network or nn.Module(), checkpoint.tensors.get(name, {}), {}, (), _always(report))
    return TransferReport(str(base), parts, tuple(_notes(base_model, metadata, synthesizer)))


@dataclass(frozen=True)
class TableRows:
    """Rows of one new table: their names, and the base's rows that each is the mean of (none: initialised)."""

    names: tuple[str, ...]
    sources: tuple[tuple[int, ...], ...]
    known: tuple[bool, ...]


def table_rows(base: Vocabulary, new: Vocabulary) -> dict[str, TableRows]:
    """Return the rows of a new vocabulary's four embedding tables in terms of a base's."""
    tables = {
        SYMBOL_TABLE: _rows_by_name(base.symbols.symbols, new.symbols.symbols),
        TONE_TABLE: _tone_rows(base.symbols, new.symbols),
        LANGUAGE_TABLE: _rows_by_name(base.symbols.languages, new.symbols.languages),
    }
    speakers = _rows_by_name(base.speakers, new.speakers)
    all_speakers = tuple(range(len(base.speakers)))
    tables[SPEAKER_TABLE] = TableRows(
        speakers.names, tuple(source or all_speakers for source in speakers.sources), speakers.known
    )
    return tables


def _rows_by_name(base: Sequence[str], new: Sequence[str]) -> TableRows:
    positions = {name: position for position, name in enumerate(base)}
    known = tuple(name in positions for name in new)
    return TableRows(tuple(new), tuple((positions[name],) if name in positions else () for name in new), known)


def _tone_rows(base: SymbolTable, new: SymbolTable) -> TableRows:
    """Return rows of tones by language and tone; an id shared by several tones is the mean of theirs."""
    names: list[list[str]] = [[] for _ in range(new.tone_count)]
    sources: list[set[int]] = [set() for _ in range(new.tone_count)]
    for language, ids in new.tones.items():
        base_ids = base.tones.get(language, ())
        for tone, tone_id in enumerate(ids):
            names[tone_id].append(f"{language} {tone}")
            sources[tone_id] |= set(base_ids[tone : tone + 1])
    return TableRows(
        tuple("/".join(each) for each in names),
        tuple(tuple(sorted(each)) for each in sources),
        tuple(bool(each) for each in sources),
    )


@torch.no_grad()
def _transfer_network(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    rows: Mapping[str, TableRows],
    other_kind: tuple[str, ...],
    part_of: Callable[[str], PartReport],
) -> None:
    """Copy what fits into one network, except keys that start with `other_kind`, and report every tensor."""
    own = network.state_dict()
    for key, tensor in own.items():
        part = part_of(key)
        if other_kind and key.startswith(other_kind):
            part.fresh.append(key)
        elif (
            key in rows
            and key in weights
            and weights[key].shape[1:] == tensor.shape[1:]
            and len(rows[key].names) <= len(tensor)
        ):
            _fill_table(tensor, weights[key], rows[key], key, part)
        elif key not in rows and all(
            weights[each].shape == own[each].shape if each in weights else False for each in _companions(key)
        ):
            tensor.copy_(weights[key])
            part.transferred.append(key)
        else:
            part.fresh.append(key)
    for key in sorted(key for key in weights if key not in own or (other_kind and key.startswith(other_kind))):
        part_of(key).unused.append(key)


def _always(part: PartReport) -> Callable[[str], PartReport]:
    return lambda key: part


def _companions(key: str) -> tuple[str, ...]:
    """Return the keys of the tensors that can only be copied together with this one, itself included."""
    for suffix in NORM_PARTS:
        if key.endswith(suffix):
            return tuple(key.removesuffix(suffix) + each for each in NORM_PARTS)
    return (key,)


def _fill_table(table: Tensor, base: Tensor, rows: TableRows, key: str, part: PartReport) -> None:
    for position, sources in enumerate(rows.sources):
        if sources:
            # A single source is copied: its mean could be rounded.
            table[position] = base[sources[0]] if len(sources) == 1 else base[list(sources)].mean(0)
    new = [name for name, known in zip(rows.names, rows.known, strict=True) if not known]
    if new or len(rows.names) < len(table):
        label = "new, from the mean of the base's speakers" if key == SPEAKER_TABLE else "new"
        part.partly[key] = {
            "carried over": [name for name, known in zip(rows.names, rows.known, strict=True) if known],
            label: new,
        }
    else:
        part.transferred.append(key)


def _notes(base_model: Mapping[str, Any], metadata: Mapping[str, Any], synthesizer: Synthesizer) -> list[str]:
    """Return notes on settings that differ without a difference in shapes."""
    config = synthesizer.config
    notes = [
        f"{part} is {getattr(config, part)} instead of {base_model[part]}: it is not transferred"
        for part in KINDS
        if base_model[part] != getattr(config, part)
    ]
    if base_model["segment_frames"] != config.segment_frames:
        notes.append(
            f"segments of {config.segment_frames} frames instead of {base_model['segment_frames']}: "
            "no weight depends on it"
        )
    if base_model["hop_samples"] != config.hop_samples:
        notes.append(
            f"hop of {config.hop_samples} samples instead of {base_model['hop_samples']}: durations are in other frames"
        )
    if base_model["spectrogram_channels"] != config.spectrogram_channels:
        notes.append(
            f"the posterior encoder reads {config.spectrogram_channels} channels "
            f"instead of {base_model['spectrogram_channels']}"
        )
    encoders = metadata.get("encoders", {})
    kept = [
        language for language, size in config.bert_channels.items() if base_model["bert_channels"].get(language) == size
    ]
    notes += [
        f"the projection of {language} was trained on features of {encoders[language]['name']}; "
        "it does not fit another encoder of that width"
        for language in kept
        if encoders.get(language, {}).get("name")
    ]
    return notes


def _shortened(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_LISTED_NAMES} more" if len(names) > MAX_LISTED_NAMES else ""
    return ", ".join(names[:MAX_LISTED_NAMES]) + more
