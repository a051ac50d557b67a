"""BERT stage: word-piece features of the normalised texts, one row per token in fp16, in shards.

Each span of one language goes through that language's encoder as a text of its own. Expansion to phones happens when training
loads them: the manifest says which token of its span each phone takes.
"""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from model.bert.encoder import BertEncoder, EncoderError, EncoderSource, fingerprint, load_tokenizer, texts_per_batch, use_reproducible_kernels
from model.bert.spans import LanguageSpan, language_spans
from model.bert.tokenizers import Tokenizer, Tokens
from model.text.errors import TextError
from stages.common import manifests
from stages.common.code_graph import code_version
from stages.common.errors import ParamsError, PipelineError
from stages.common.files import content_key, output_folder
from stages.common.manifests import ManifestRows
from stages.rows import machine_settings
from stages.rows.engine import Finished, Row, RowOutcome, RowResult, fixed_chunks, rejection, run_rows
from stages.rows.executors import engine
from stages.rows.outcomes import OutcomeWriter, outcome_writer

SPAN_MARK = "\t"  # between an utterance's id and a span's number, where there are several
TOKENISED_TOGETHER = 1024  # utterances
WINDOW_ROWS = 8192  # rows among which those of equal length go together
FEW_ROWS = 64
PLACE_COLUMNS = ("shard", "offset_bytes", "n_tokens", "n_channels")


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


@dataclass(frozen=True)
class SpanRow:
    """A span of an utterance: its row (None where the language has no features) and its phones' tokens in it."""

    span: LanguageSpan
    row: Row | None
    phone_tokens: list[int]


@dataclass(frozen=True)
class PlannedUtterance:
    """An utterance's spans, or why it never comes to encoding (reason, detail)."""

    utterance_id: str
    spans: tuple[SpanRow, ...] = ()
    rejected: tuple[str, str] | None = None


@dataclass(frozen=True)
class Plan:
    """What is to be done for the utterances of a manifest, made anew each time it is read: tokens are not kept."""

    utterances: ManifestRows
    encoders: Mapping[str, EncoderSource]
    fingerprints: Mapping[str, str]
    machine: tuple[str, ...]

    @property
    def sources(self) -> set[EncoderSource]:
        """Every encoder that is needed."""
        return {source for source in self.encoders.values() if source.kind != "none"}

    def rows(self) -> Iterator[Row]:
        """Yield the rows to encode."""
        for utterance in self.read():
            yield from (span.row for span in utterance.spans if span.row)

    def read(self) -> Iterator[PlannedUtterance]:
        """Yield utterances, cut into spans and tokenised; one that cannot be is a reject."""
        tokenizers = {source: _tokenizer(source) for source in self.sources}
        rows = self.utterances.read("utterance_id", "normalised", "word_starts", "word_ends", "word2ph", "word_languages")
        while some := list(islice(rows, TOKENISED_TOGETHER)):
            cut = {row["utterance_id"]: _cut(row) for row in some}
            texts: dict[EncoderSource, dict[str, None]] = {source: {} for source in tokenizers}
            for span in (span for spans in cut.values() if not isinstance(spans, TextError) for span in spans):
                if (source := self.encoders[span.language]) in texts:
                    texts[source][span.text] = None
            tokens = {(source, text): found for source, wanted in texts.items()
                      for text, found in zip(wanted, tokenise(tokenizers[source], list(wanted)), strict=True)}  # fmt: skip
            for utterance_id, spans in cut.items():
                yield self._plan(utterance_id, spans, tokens)

    def _plan(
        self, utterance_id: str, spans: list[LanguageSpan] | TextError, tokens: Mapping[tuple[EncoderSource, str], Tokens | str]
    ) -> PlannedUtterance:
        if isinstance(spans, TextError):
            return PlannedUtterance(utterance_id, rejected=(spans.reason_code, spans.detail))
        placed: list[SpanRow] = []
        for number, span in enumerate(spans):
            source = self.encoders[span.language]
            if source.kind == "none":
                placed.append(SpanRow(span, None, [0] * span.n_phones))
                continue
            found = tokens[source, span.text]
            if isinstance(found, str):
                return PlannedUtterance(utterance_id, rejected=("tokenizer_failed", f"{_naming(span)}: {found}"))
            try:
                phone_tokens = span.phone_tokens(found.offsets)
            except TextError as error:
                return PlannedUtterance(utterance_id, rejected=(error.reason_code, f"{_naming(span)}: {error.detail}"))
            row_id = utterance_id if len(spans) == 1 else f"{utterance_id}{SPAN_MARK}{number}"
            key = content_key("bert", self.fingerprints[span.language], found.ids, list(self.machine), code_version("stages.bert.stage"))
            placed.append(SpanRow(span, Row(row_id, key, TokenisedRow(source, found.ids)), phone_tokens))
        return PlannedUtterance(utterance_id, tuple(placed))


def _cut(row: Mapping[str, Any]) -> list[LanguageSpan] | TextError:
    """Return the spans of one language each, or why there are none."""
    try:
        return language_spans(row["normalised"], list(zip(row["word_starts"], row["word_ends"], strict=True)), row["word2ph"], row["word_languages"])
    except TextError as error:
        return error


@lru_cache(maxsize=4)
def _encoder(source: EncoderSource, device: str) -> BertEncoder:
    return BertEncoder(source, device)


@lru_cache(maxsize=4)
def _tokenizer(source: EncoderSource) -> Tokenizer:
    return load_tokenizer(source)


def available_devices(setting: str, gpu_names: Sequence[str]) -> list[str]:
    """Return the devices that workers share: `setting` itself, or for "cuda" every GPU of the first one's kind.

    GPUs of another kind would give other bits. Raises PipelineError when there is no GPU.
    """
    if not setting.startswith("cuda"):
        return [setting]
    if not gpu_names:
        raise PipelineError(f"VOICE_DEVICE={setting}: torch sees no GPU here; set VOICE_DEVICE=cpu, or install a torch with CUDA")
    if setting != "cuda":
        if setting not in [f"cuda:{index}" for index in range(len(gpu_names))]:
            raise PipelineError(f"VOICE_DEVICE={setting}: torch sees cuda:0 to cuda:{len(gpu_names) - 1} here")
        return [setting]
    return [f"cuda:{index}" for index, name in enumerate(gpu_names) if name == gpu_names[0]]


def device_of_worker(devices: Sequence[str], worker_number: int) -> str:
    """Return the device of the n-th worker process, counted from 1 (0: the main process): they take turns."""
    return devices[max(0, worker_number - 1) % len(devices)]


def this_workers_device(devices: Sequence[str]) -> str:
    """Return the device of the process that asks."""
    number = re.search(r"-(\d+)$", multiprocessing.current_process().name)  # SpawnProcess-3
    return device_of_worker(devices, int(number[1]) if number else 0)


def compute(devices: Sequence[str], rows: Sequence[Row]) -> list[RowResult]:
    """Encode a chunk of rows on this worker's device; rows of equal length that share an encoder go through it together."""
    device = this_workers_device(devices)
    results: dict[str, RowResult] = {}
    groups: dict[tuple[EncoderSource, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.payload.source, len(row.payload.token_ids)), []).append(row)
    for (source, n_tokens), members in groups.items():
        encoder = _encoder(source, device)
        if n_tokens > encoder.max_tokens:
            detail = f"{n_tokens} word pieces; {source.name} takes {encoder.max_tokens}"
            results |= {row.key: rejection("too_many_tokens", detail) for row in members}
        else:
            results |= _encode_together(encoder, members)
    return [results[row.key] for row in rows]


def _encode_together(encoder: BertEncoder, rows: Sequence[Row]) -> dict[str, RowResult]:
    """Encode rows of one length. Where that fails, one by one, so that the row that cannot be encoded is the only reject."""
    try:
        features = encoder.encode([row.payload.token_ids for row in rows])
    except (RuntimeError, IndexError, MemoryError) as error:
        if len(rows) > 1:
            return {key: result for row in rows for key, result in _encode_together(encoder, [row]).items()}
        # Want of memory blames the moment: it is not remembered, the next run tries again.
        lasting = not (isinstance(error, MemoryError) or "memory" in str(error).lower())
        return {rows[0].key: rejection("encoder_failed", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", lasting)}
    results: dict[str, RowResult] = {}
    for row, array in zip(rows, features, strict=True):
        if np.isfinite(array).all():
            results[row.key] = ({"n_tokens": len(array), "n_channels": encoder.n_channels}, array.tobytes())
        else:
            results[row.key] = rejection("not_finite", f"{int((~np.isfinite(array)).sum())} features are infinite or no numbers in fp16")
    return results


def batches(rows: Iterable[Row]) -> Iterator[Sequence[Row]]:
    """Yield chunks of rows that share an encoder and a length, as many as go through it together, of some thousand rows at a time."""
    remaining = iter(rows)
    while window := list(islice(remaining, WINDOW_ROWS)):
        groups: dict[tuple[str, int], list[Row]] = {}
        for row in window:
            groups.setdefault((row.payload.source.name, len(row.payload.token_ids)), []).append(row)
        for (_, n_tokens), members in sorted(groups.items(), key=lambda item: item[0]):
            yield from fixed_chunks(members, texts_per_batch(n_tokens))


def main(clean_text: Path, out: Path, params: BertParams) -> None:
    """Encode every normalised text, each span of one language with that language's BERT.

    Reads clean_text.parquet; writes bert.parquet, rejects.parquet and shards of fp16 features, token after token.

    Runs on the device VOICE_DEVICE (default cpu) with VOICE_WORKERS processes; with "cuda" they take turns with the GPUs.
    """
    kernels = use_reproducible_kernels()
    utterances = manifests.open_manifest(clean_text / "clean_text.parquet", manifests.CLEAN_TEXT)
    languages = sorted({code for row in utterances.read("word_languages") for code in row["word_languages"]})
    without = [language for language in languages if language not in params.encoders]
    if without:
        raise ParamsError(f"params.yaml: bert.encoders has none for {', '.join(without)}; name one, or `kind: none` for no features")
    wanted = os.environ.get("VOICE_DEVICE", "cpu")
    encoders = {code: params.encoders[code] for code in languages}
    try:
        devices, machine = _machine(wanted, kernels)
        facts = describe_encoders(encoders)
        plan = Plan(utterances, encoders, {code: fact.get("fingerprint", "") for code, fact in facts["encoders"].items()}, tuple(machine))
        for source in plan.sources:
            _tokenizer(source)
    except EncoderError as error:
        raise PipelineError(f"bert: {error}") from None
    run = partial(run_rows, chunks=batches, needs_gpu=devices[0].startswith("cuda"), get_ready=partial(load_encoders, plan.sources, devices[0]))
    with (
        output_folder(out) as temporary,
        _one_worker_per_gpu(devices),
        run("bert", plan.rows, partial(compute, devices), temporary) as outcome,
        outcome_writer(temporary, "bert", manifests.BERT, facts, n_input=utterances.n_rows, max_reject_share=params.max_reject_share) as writer,
    ):
        gather(plan, outcome, writer)


def _machine(setting: str, kernels: str) -> tuple[list[str], list[str]]:
    """Return the devices to use and what of this machine and its libraries the features' bits depend on."""
    import torch  # only now: the kernels had to be chosen before

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if setting.startswith("cuda") else []
    devices = available_devices(setting, gpus)
    kinds = sorted({gpus[int(device.partition(":")[2])] for device in devices if device.startswith("cuda:")})
    versions = [f"{name} {version(name)}" for name in ("torch", "transformers", "tokenizers")]
    if kinds and engine() == "ray":
        devices = ["cuda"]  # Ray shows every worker the one GPU that is its own
    return devices, [*versions, torch.backends.cpu.get_cpu_capability(), kernels, setting.partition(":")[0], *kinds]


@contextmanager
def _one_worker_per_gpu(devices: Sequence[str]) -> Iterator[None]:
    """On this machine's GPUs as many workers as there are GPUs, unless VOICE_WORKERS says otherwise."""
    if not devices[0].startswith("cuda") or engine() == "ray" or machine_settings.setting("VOICE_WORKERS"):
        yield
        return
    os.environ["VOICE_WORKERS"] = str(len(devices))
    try:
        yield
    finally:
        del os.environ["VOICE_WORKERS"]


def load_encoders(sources: Iterable[EncoderSource], device: str, n_rows: int) -> bool:
    """Load every encoder once before any work, so that one that cannot be used ends the run here; returns whether the rows are so few
    that this process does them sooner than others would start. Raises PipelineError."""
    try:
        for source in sources:
            _encoder(source, device)
    except EncoderError as error:
        raise PipelineError(f"bert: {error}") from None
    few = n_rows <= FEW_ROWS
    if not few and machine_settings.worker_count() > 1:  # the workers load their own: this process would only hold the memory
        _encoder.cache_clear()
    return few


def describe_encoders(encoders: Mapping[str, EncoderSource]) -> dict[str, Any]:
    """Return the facts for the manifest: each language's encoder and the fingerprint of its files."""
    facts: dict[str, Any] = {}
    for language, source in encoders.items():
        facts[language] = {"kind": source.kind, "name": source.name, "revision": source.revision, "layer": source.layer}
        if source.kind != "none":
            facts[language]["fingerprint"] = fingerprint(source)
    return {"encoders": facts}


def tokenise(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Tokens | str]:
    """Return the word pieces of each text, or what the tokenizer says to a text that it cannot take."""
    try:
        return list(tokenizer(texts))
    except Exception as error:  # whatever a tokenizer raises over a text, it is that text's reject
        if len(texts) == 1:
            return [f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"]
        return [found for text in texts for found in tokenise(tokenizer, [text])]


def _naming(span: LanguageSpan) -> str:
    text = span.text if len(span.text) <= 40 else f"{span.text[:39]}…"
    return f"{span.language} span {text!r}"


def gather(plan: Plan, outcome: RowOutcome, writer: OutcomeWriter) -> None:
    """Write the manifest's rows and the rejects: an utterance is rejected once, for the first of its spans that was."""
    results = iter(outcome)
    for utterance in plan.read():
        if utterance.rejected:
            writer.reject(utterance.utterance_id, *utterance.rejected)
            continue
        finished = [next(results) if span.row else None for span in utterance.spans]
        bad = next(((span, row.rejected) for span, row in zip(utterance.spans, finished, strict=True) if row and row.rejected), None)
        if bad is not None:
            span, (reason, detail) = bad
            writer.reject(utterance.utterance_id, reason, f"{_naming(span.span)}: {detail}")
        else:
            writer.keep({"utterance_id": utterance.utterance_id, "spans": list(map(_place, utterance.spans, finished)),
                         "phone_tokens": [token for span in utterance.spans for token in span.phone_tokens]})  # fmt: skip


def _place(span: SpanRow, row: Finished | None) -> dict[str, Any]:
    place = {"shard": row.shard, "offset_bytes": row.offset_bytes, **row.facts} if row else dict.fromkeys(PLACE_COLUMNS, 0)
    return {"language": span.span.language, "n_phones": span.span.n_phones, **place}
