"""Encoding plan of the BERT stage: utterances split into spans and tokenised, one row key per span."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

from model.bert.encoder import EncoderSource, load_tokenizer
from model.bert.spans import LanguageSpan, language_spans
from model.bert.tokenizers import Tokenizer, Tokens
from model.text.errors import TextError
from stages.common.code_graph import code_version
from stages.common.files import content_key
from stages.common.manifests import ManifestRows
from stages.rows.engine import Row

SPAN_MARK = "\t"  # separates utterance id and span number in row ids of utterances with several spans

TOKENISED_TOGETHER = 1024  # utterances


@dataclass(frozen=True)
class TokenisedRow:
    """Input of a worker: encoder and token ids."""

    source: EncoderSource
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class SpanRow:
    """Span of an utterance with its row (None: the language has no features) and its phones' token indices."""

    span: LanguageSpan
    row: Row | None
    phone_tokens: list[int]


@dataclass(frozen=True)
class PlannedUtterance:
    """Utterance with its spans, or its rejection before encoding (reason, detail)."""

    utterance_id: str
    spans: tuple[SpanRow, ...] = ()
    rejected: tuple[str, str] | None = None


@dataclass(frozen=True)
class EncodingPlan:
    """Encoding work for a manifest's utterances, re-iterable; each iteration tokenises again, in constant memory."""

    utterances: ManifestRows
    encoders: Mapping[str, EncoderSource]
    fingerprints: Mapping[str, str]
    machine: tuple[str, ...]

    @property
    def sources(self) -> set[EncoderSource]:
        """Return every encoder that has work."""
        return {source for source in self.encoders.values() if source.kind != "none"}

    def rows(self) -> Iterator[Row]:
        """Yield the rows to encode."""
        for utterance in self.read():
            yield from (span.row for span in utterance.spans if span.row)

    def read(self) -> Iterator[PlannedUtterance]:
        """Yield utterances, split into spans and tokenised; those that cannot be are rejected."""
        tokenizers = {source: cached_tokenizer(source) for source in self.sources}
        rows = self.utterances.read(
            "utterance_id", "normalised", "word_starts", "word_ends", "word2ph", "word_languages"
        )
        while batch := list(islice(rows, TOKENISED_TOGETHER)):
            split = {row["utterance_id"]: _split(row) for row in batch}
            texts: dict[EncoderSource, dict[str, None]] = {source: {} for source in tokenizers}
            for span in (span for spans in split.values() if not isinstance(spans, TextError) for span in spans):
                if (source := self.encoders[span.language]) in texts:
                    texts[source][span.text] = None
            tokens = {
                (source, text): pieces
                for source, unique in texts.items()
                for text, pieces in zip(unique, tokenise(tokenizers[source], list(unique)), strict=True)
            }
            for utterance_id, spans in split.items():
                yield self._plan(utterance_id, spans, tokens)

    def _plan(
        self,
        utterance_id: str,
        spans: list[LanguageSpan] | TextError,
        tokens: Mapping[tuple[EncoderSource, str], Tokens | str],
    ) -> PlannedUtterance:
        if isinstance(spans, TextError):
            return PlannedUtterance(utterance_id, rejected=(spans.reason_code, spans.detail))
        placed: list[SpanRow] = []
        for number, span in enumerate(spans):
            source = self.encoders[span.language]
            if source.kind == "none":
                placed.append(SpanRow(span, None, [0] * span.n_phones))
                continue
            pieces = tokens[source, span.text]
            if isinstance(pieces, str):
                return PlannedUtterance(utterance_id, rejected=("tokenizer_failed", f"{describe_span(span)}: {pieces}"))
            try:
                phone_tokens = span.phone_tokens(pieces.offsets)
            except TextError as error:
                return PlannedUtterance(
                    utterance_id, rejected=(error.reason_code, f"{describe_span(span)}: {error.detail}")
                )
            row_id = utterance_id if len(spans) == 1 else f"{utterance_id}{SPAN_MARK}{number}"
            key = content_key(
                "bert",
                self.fingerprints[span.language],
                pieces.ids,
                list(self.machine),
                code_version("stages.bert.stage"),
            )
            placed.append(SpanRow(span, Row(row_id, key, TokenisedRow(source, pieces.ids)), phone_tokens))
        return PlannedUtterance(utterance_id, tuple(placed))


def _split(row: Mapping[str, Any]) -> list[LanguageSpan] | TextError:
    """Return the spans of one language each, or the error that prevents it."""
    try:
        return language_spans(
            row["normalised"],
            list(zip(row["word_starts"], row["word_ends"], strict=True)),
            row["word2ph"],
            row["word_languages"],
        )
    except TextError as error:
        return error


@lru_cache(maxsize=4)
def cached_tokenizer(source: EncoderSource) -> Tokenizer:
    """Return this process's tokenizer, loaded by the first call."""
    return load_tokenizer(source)


def tokenise(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Tokens | str]:
    """Return the word pieces of each text, or the tokenizer's error message for it."""
    try:
        return list(tokenizer(texts))
    except Exception as error:  # a tokenizer may raise anything; it only rejects the text
        if len(texts) == 1:
            return [f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"]
        return [pieces for text in texts for pieces in tokenise(tokenizer, [text])]


def describe_span(span: LanguageSpan) -> str:
    """Return a span's language and shortened text, for messages."""
    text = span.text if len(span.text) <= 40 else f"{span.text[:39]}…"
    return f"{span.language} span {text!r}"
