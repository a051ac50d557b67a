"""BERT stage: word-piece features of the normalised texts, one row per token in fp16, in shards.

Each span of one language is encoded separately, by that language's encoder. Training expands tokens to phones: the
manifest holds each phone's token index in its span.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from model.bert.encoder import EncoderSource, fingerprint, use_reproducible_kernels
from model.bert.tokenizers import EncoderError
from model.settings import Settings, Share
from stages.bert.devices import describe_machine, one_worker_per_gpu
from stages.bert.encode import batches, compute, load_encoders
from stages.bert.plan import EncodingPlan, SpanRow, cached_tokenizer, describe_span
from stages.common import manifests
from stages.common.errors import ParamsError, PipelineError
from stages.common.files import output_folder
from stages.rows.engine import FinishedRow, FinishedRows, run_rows
from stages.rows.outcomes import OutcomeWriter, outcome_writer

PLACE_COLUMNS = ("shard", "offset_bytes", "n_tokens", "n_channels")


@dataclass(frozen=True)
class BertParams(Settings):
    """One encoder per language code; `kind: none` gives a language no features."""

    encoders: dict[str, EncoderSource]
    max_reject_share: Share


def main(clean_text: Path, out: Path, params: BertParams) -> None:
    """Encode every normalised text, each span of one language with that language's BERT.

    Reads clean_text.parquet; writes bert.parquet, rejects.parquet and shards of fp16 features, token after token.

    Runs on the device VOICE_DEVICE (default cpu) with VOICE_WORKERS processes; "cuda" distributes them over all GPUs.
    """
    kernels = use_reproducible_kernels()
    utterances = manifests.open_manifest(clean_text / "clean_text.parquet", manifests.CLEAN_TEXT)
    languages = sorted({code for row in utterances.read("word_languages") for code in row["word_languages"]})
    without = [language for language in languages if language not in params.encoders]
    if without:
        raise ParamsError(
            f"params.yaml: bert.encoders has none for {', '.join(without)}; name one, or `kind: none` for no features"
        )
    device_setting = os.environ.get("VOICE_DEVICE", "cpu")
    encoders = {code: params.encoders[code] for code in languages}
    try:
        devices, machine = describe_machine(device_setting, kernels)
        facts = describe_encoders(encoders)
        plan = EncodingPlan(
            utterances,
            encoders,
            {code: fact.get("fingerprint", "") for code, fact in facts["encoders"].items()},
            tuple(machine),
        )
        for source in plan.sources:
            cached_tokenizer(source)
    except EncoderError as error:
        raise PipelineError(f"bert: {error}") from None
    run = partial(
        run_rows,
        chunks=batches,
        needs_gpu=devices[0].startswith("cuda"),
        warm_up=partial(load_encoders, plan.sources, devices[0]),
    )
    with (
        output_folder(out) as temporary,
        one_worker_per_gpu(devices),
        run("bert", plan.rows, partial(compute, devices), temporary) as outcome,
        outcome_writer(
            temporary,
            "bert",
            manifests.BERT,
            facts,
            n_input=utterances.n_rows,
            max_reject_share=params.max_reject_share,
        ) as writer,
    ):
        gather(plan, outcome, writer)


def describe_encoders(encoders: Mapping[str, EncoderSource]) -> dict[str, Any]:
    """Return the facts for the manifest: each language's encoder and the fingerprint of its files."""
    facts: dict[str, Any] = {}
    for language, source in encoders.items():
        facts[language] = {"kind": source.kind, "name": source.name, "revision": source.revision, "layer": source.layer}
        if source.kind != "none":
            facts[language]["fingerprint"] = fingerprint(source)
    return {"encoders": facts}


def gather(plan: EncodingPlan, outcome: FinishedRows, writer: OutcomeWriter) -> None:
    """Write the manifest's rows and the rejects; an utterance is rejected once, for its first rejected span."""
    results = iter(outcome)
    for utterance in plan.read():
        if utterance.rejected:
            writer.reject(utterance.utterance_id, *utterance.rejected)
            continue
        finished = [next(results) if span.row else None for span in utterance.spans]
        bad = next(
            ((span, row.rejected) for span, row in zip(utterance.spans, finished, strict=True) if row and row.rejected),
            None,
        )
        if bad is not None:
            span, (reason, detail) = bad
            writer.reject(utterance.utterance_id, reason, f"{describe_span(span.span)}: {detail}")
        else:
            writer.keep(
                {
                    "utterance_id": utterance.utterance_id,
                    "spans": list(map(_place, utterance.spans, finished)),
                    "phone_tokens": [token for span in utterance.spans for token in span.phone_tokens],
                }
            )


def _place(span: SpanRow, row: FinishedRow | None) -> dict[str, Any]:
    place = (
        {"shard": row.shard, "offset_bytes": row.offset_bytes, **row.facts} if row else dict.fromkeys(PLACE_COLUMNS, 0)
    )
    return {"language": span.span.language, "n_phones": span.span.n_phones, **place}
