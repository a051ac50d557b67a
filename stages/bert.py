"""BERT stage: word-piece features of the normalised texts, one row per token in fp16, in shards.

Expansion to phones happens when training loads them: the manifest says which token each phone takes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from model.bert import MAX_BATCH_TOKENS, BertEncoder, EncoderError, EncoderSource, fingerprint, load_tokenizer, use_reproducible_kernels
from model.text.alignment import phones_to_tokens
from stages.common import manifests
from stages.common.code_graph import code_version
from stages.common.errors import ParamsError, PipelineError
from stages.common.files import content_key, output_folder
from stages.common.rows import Row, RowResult, run_rows
from stages.common.stage import run_stage


@dataclass(frozen=True)
class BertParams:
    """One encoder per language code; `kind: none` gives a language no features."""

    encoders: dict[str, EncoderSource]
    max_reject_share: float


@dataclass(frozen=True)
class TokenisedRow:
    """What a worker needs: which encoder, which tokens."""

    source: EncoderSource
    token_ids: tuple[int, ...]


@lru_cache(maxsize=4)
def _encoder(source: EncoderSource, device: str) -> BertEncoder:
    return BertEncoder(source, device)


def compute(device: str, rows: Sequence[Row]) -> list[RowResult]:
    """Encode a chunk of rows; rows of equal length that share an encoder go through it together."""
    results: dict[str, RowResult] = {}
    groups: dict[tuple[EncoderSource, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.payload.source, len(row.payload.token_ids)), []).append(row)
    for (source, n_tokens), members in groups.items():
        encoder = _encoder(source, device)
        if n_tokens > encoder.max_tokens:
            detail = f"{n_tokens} word pieces; {source.name} takes {encoder.max_tokens}"
            results |= {row.key: ({"rejected": ["too_many_tokens", detail]}, b"") for row in members}
            continue
        features = encoder.encode([row.payload.token_ids for row in members])
        facts = {"n_tokens": n_tokens, "n_channels": encoder.n_channels}
        results |= {row.key: (dict(facts), array.tobytes()) for row, array in zip(members, features, strict=True)}
    return [results[row.key] for row in rows]


def batches(rows: Sequence[Row]) -> list[Sequence[Row]]:
    """Return chunks of rows that share an encoder and a length, at most MAX_BATCH_TOKENS tokens each."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.payload.source.name, len(row.payload.token_ids)), []).append(row)
    chunks: list[Sequence[Row]] = []
    for (_, n_tokens), members in sorted(groups.items(), key=lambda item: item[0]):
        size = max(1, MAX_BATCH_TOKENS // n_tokens)
        chunks += [members[start : start + size] for start in range(0, len(members), size)]
    return chunks


def main(clean_text: Path, out: Path, params: BertParams) -> None:
    """Encode every normalised text with its language's BERT.

    Reads clean_text.parquet; writes bert.parquet, rejects.parquet and shards of fp16 features, token after token.
    Runs on the device VOICE_DEVICE (default cpu), with VOICE_WORKERS processes on the CPU.
    """
    kernels = use_reproducible_kernels()
    table = manifests.read_manifest(clean_text / "clean_text.parquet", manifests.CLEAN_TEXT)
    languages = sorted(set(table.column("language").to_pylist()))
    without = [language for language in languages if language not in params.encoders]
    if without:
        raise ParamsError(f"params.yaml: bert.encoders has none for {', '.join(without)}; name one, or `kind: none` for no features")
    device = os.environ.get("VOICE_DEVICE", "cpu")
    try:
        rows, phone_tokens, facts = _prepare(table.to_pylist(), {code: params.encoders[code] for code in languages}, [kernels, device])
        _check_layers(rows, device)
    except EncoderError as error:
        raise PipelineError(f"bert: {error}") from None
    with output_folder(out) as temporary:
        outcome = run_rows("bert", rows, partial(compute, device), temporary, chunks=batches)
        kept = [{"utterance_id": utterance_id, "shard": place[0], "offset_bytes": place[1], **outcome.facts[utterance_id],
                 "phone_tokens": phone_tokens[utterance_id]}
                for utterance_id, place in outcome.placed.items() if utterance_id in outcome.facts]  # fmt: skip
        with_none = set(table.column("utterance_id").to_pylist()) - {row.utterance_id for row in rows}
        kept += [{"utterance_id": utterance_id, "shard": 0, "offset_bytes": 0, "n_tokens": 0, "n_channels": 0, "phone_tokens": []}
                 for utterance_id in with_none]  # fmt: skip
        manifests.write_outcome(temporary, "bert", manifests.table_from_rows(kept, manifests.BERT, facts), manifests.BERT,
                                outcome.rejected, n_input=table.num_rows, max_reject_share=params.max_reject_share)  # fmt: skip


def _check_layers(rows: list[Row], device: str) -> None:
    """Load every encoder once before any work, so that one that cannot be used ends the run here; raises EncoderError."""
    for source in {row.payload.source for row in rows}:
        _encoder(source, device)


def _prepare(
    utterances: list[dict[str, Any]], encoders: dict[str, EncoderSource], machine: list[str]
) -> tuple[list[Row], dict[str, list[int]], dict[str, Any]]:
    """Return the rows to encode, each utterance's token per phone, and the facts for the manifest."""
    code = code_version("stages.bert")
    import torch  # only now: the kernels had to be chosen before

    versions = [f"{name} {version(name)}" for name in ("torch", "transformers")] + [torch.backends.cpu.get_cpu_capability()]
    rows, phone_tokens = [], {}
    facts: dict[str, Any] = {"encoders": {}}
    for language, source in encoders.items():
        facts["encoders"][language] = {"kind": source.kind, "name": source.name, "revision": source.revision, "layer": source.layer}
        if source.kind == "none":
            continue
        weights = fingerprint(source)
        facts["encoders"][language]["fingerprint"] = weights
        members = [row for row in utterances if row["language"] == language]
        for row, tokens in zip(members, load_tokenizer(source)([row["normalised"] for row in members]), strict=True):
            spans = list(zip(row["word_starts"], row["word_ends"], strict=True))
            phone_tokens[row["utterance_id"]] = phones_to_tokens(spans, row["word2ph"], tokens.offsets)
            key = content_key("bert", weights, tokens.ids, versions, machine, code)
            rows.append(Row(row["utterance_id"], key, TokenisedRow(source, tokens.ids)))
    return rows, phone_tokens, facts


if __name__ == "__main__":
    run_stage(main, BertParams, "bert")
