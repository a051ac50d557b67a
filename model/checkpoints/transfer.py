"""Warm start: carry the weights of a finished voice over into new networks, and say what was and what was not.

Tensors of the same name and shape are copied. Tables of embeddings are carried over by name, row by row: symbols,
tones,
languages and speakers keep their vectors wherever they stand in the new tables. What does not fit stays as it was.
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
# A normalised weight is a length and a direction: one without the other is no weight.
NORM_PARTS = (".parametrizations.weight.original0", ".parametrizations.weight.original1")
# Parts of several kinds; between kinds, what is called and shaped alike means something else.
KINDS = ("decoder", "flow")
MAX_LISTED_NAMES = 12


@dataclass(frozen=True)
class Vocabulary:
    """The names that rows of tables stand for: symbols, tones and languages, and the speakers by id."""

    symbols: SymbolTable
    speakers: tuple[str, ...]


@dataclass
class PartReport:
    """What happened in one part of the networks, by the names of its tensors.

    transferred: copied whole. partly: table → the names of the rows that the base had and of those that it had not.
    fresh: kept their own initialisation. unused: in the base alone.
    """

    transferred: list[str] = field(default_factory=list)
    partly: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class TransferReport:
    """What a transfer did, per part of the networks ("text_encoder", "discriminator", …), and notes on what no tensor
    shows.
    """

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
        """Plain JSON-ready values: counts and names per part."""
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
    """Carry over what fits from a voice folder into the networks given, in place; the folder is only read.

    A table's row without a namesake keeps its own initialisation, a new speaker's starts from the mean of the base's
    speakers. Raises CheckpointError for a folder that is no voice, or damaged.
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
    _carry_over(synthesizer, weights, rows, other_kind, lambda key: parts.setdefault(key.split(".")[0], PartReport()))
    for name, network in (("discriminator", discriminator), ("duration_discriminator", duration_discriminator)):
        if network is not None or name in checkpoint.tensors:
            judge = parts[name] = PartReport()
            _carry_over(network or nn.Module(), checkpoint.tensors.get(name, {}), {}, (), _always(judge))
    return TransferReport(str(base), parts, tuple(_notes(base_model, metadata, synthesizer)))


@dataclass(frozen=True)
class TableRows:
    """How the rows of one table arise: for each new row its name and the base's rows whose mean it is (none: fresh)."""

    names: tuple[str, ...]
    sources: tuple[tuple[int, ...], ...]
    known: tuple[bool, ...]


def table_rows(base: Vocabulary, new: Vocabulary) -> dict[str, TableRows]:
    """Work out the rows of the four tables of embeddings of a new vocabulary from those of a base."""
    tables = {
        SYMBOL_TABLE: _rows_by_name(base.symbols.symbols, new.symbols.symbols),
        TONE_TABLE: _tone_rows(base.symbols, new.symbols),
        LANGUAGE_TABLE: _rows_by_name(base.symbols.languages, new.symbols.languages),
    }
    speakers = _rows_by_name(base.speakers, new.speakers)
    everybody = tuple(range(len(base.speakers)))
    tables[SPEAKER_TABLE] = TableRows(
        speakers.names, tuple(source or everybody for source in speakers.sources), speakers.known
    )
    return tables


def _rows_by_name(base: Sequence[str], new: Sequence[str]) -> TableRows:
    places = {name: place for place, name in enumerate(base)}
    known = tuple(name in places for name in new)
    return TableRows(tuple(new), tuple((places[name],) if name in places else () for name in new), known)


def _tone_rows(base: SymbolTable, new: SymbolTable) -> TableRows:
    """A tone is a language's own; an id that several tones share starts from the mean of theirs."""
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
def _carry_over(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    rows: Mapping[str, TableRows],
    other_kind: tuple[str, ...],
    part_of: Callable[[str], PartReport],
) -> None:
    """Copy what fits into one network, but for keys that begin with `other_kind`; enter all tensors of both sides into
    the report.
    """
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
    """The tensors that only make sense together with this one, itself included."""
    for suffix in NORM_PARTS:
        if key.endswith(suffix):
            return tuple(key.removesuffix(suffix) + each for each in NORM_PARTS)
    return (key,)


def _fill_table(table: Tensor, base: Tensor, rows: TableRows, key: str, part: PartReport) -> None:
    for place, sources in enumerate(rows.sources):
        if sources:
            # One source is copied as it is: a mean could round.
            table[place] = base[sources[0]] if len(sources) == 1 else base[list(sources)].mean(0)
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
    """What the tensors' shapes do not tell."""
    config = synthesizer.config
    notes = [
        f"{part} is {getattr(config, part)} instead of {base_model[part]}: it starts anew"
        for part in KINDS
        if base_model[part] != getattr(config, part)
    ]
    if base_model["segment_frames"] != config.segment_frames:
        notes.append(
            f"segments of {config.segment_frames} frames instead of {base_model['segment_frames']}: no weight depends on it"
        )
    if base_model["hop_samples"] != config.hop_samples:
        notes.append(
            f"hop of {config.hop_samples} samples instead of {base_model['hop_samples']}: durations count other frames"
        )
    if base_model["spectrogram_channels"] != config.spectrogram_channels:
        notes.append(
            f"the posterior encoder reads {config.spectrogram_channels} channels instead of {base_model['spectrogram_channels']}"
        )
    encoders = metadata.get("encoders", {})
    kept = [
        language for language, size in config.bert_channels.items() if base_model["bert_channels"].get(language) == size
    ]
    notes += [
        f"the projection of {language} was trained on features of {encoders[language]['name']}; another encoder of that width needs it anew"
        for language in kept
        if encoders.get(language, {}).get("name")
    ]
    return notes


def _shortened(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_LISTED_NAMES} more" if len(names) > MAX_LISTED_NAMES else ""
    return ", ".join(names[:MAX_LISTED_NAMES]) + more
