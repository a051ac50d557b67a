"""Text cleaning stage: transcripts become normalised text, phones, tones and phones per word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from model.text.errors import TextError
from model.text.front_end import available_languages, front_end_packages, get_front_end
from stages.common import manifests
from stages.common.code_graph import code_version
from stages.common.errors import RowRejected
from stages.common.files import content_key, output_folder
from stages.common.rows import Row, RowResult, compute_each, fixed_chunks, run_rows
from stages.common.stage import run_stage


@dataclass(frozen=True)
class CleanTextParams:
    """Share of utterances whose text may be unreadable before the run stops."""

    max_reject_share: float


def process(utterance: tuple[str, str]) -> RowResult:
    """Return the facts of one (language, text); raises RowRejected with the front end's reason."""
    language, text = utterance
    try:
        front_end = get_front_end(language)
        normalised = front_end.normalise(text)
        sequence = front_end.to_phones(normalised)
    except TextError as error:
        raise RowRejected(error.reason_code, error.detail) from None
    facts = {
        "language": language, "normalised": normalised, "words": list(sequence.words),
        "word_starts": [start for start, _ in sequence.word_spans], "word_ends": [end for _, end in sequence.word_spans],
        "phones": list(sequence.phones), "tones": list(sequence.tones), "word2ph": list(sequence.word2ph),
    }  # fmt: skip
    return facts, b""


def compute(rows: Sequence[Row]) -> list[RowResult]:
    """Clean a chunk of rows."""
    return compute_each(process, rows)


def main(corpus: Path, out: Path, params: CleanTextParams) -> None:
    """Normalise every transcript and turn it into phones.

    Reads corpus.parquet; writes clean_text.parquet and rejects.parquet.
    """
    table = manifests.read_manifest(corpus / "corpus.parquet", manifests.CORPUS)
    code = code_version("stages.clean_text")
    versions = {language: [f"{name} {version(name)}" for name in front_end_packages(language)] for language in available_languages()}
    rows = [
        Row(row["utterance_id"], content_key("clean_text", row["language"], row["text"], versions.get(row["language"]), code),
            (row["language"], row["text"]))
        for row in table.select(["utterance_id", "language", "text"]).to_pylist()
    ]  # fmt: skip
    with output_folder(out) as temporary:
        outcome = run_rows("clean_text", rows, compute, None, chunks=partial(fixed_chunks, size=256))
        kept = [{"utterance_id": utterance_id, **facts} for utterance_id, facts in outcome.facts.items()]
        manifests.write_outcome(temporary, "clean_text", manifests.table_from_rows(kept, manifests.CLEAN_TEXT), manifests.CLEAN_TEXT,
                                outcome.rejected, n_input=table.num_rows, max_reject_share=params.max_reject_share)  # fmt: skip


if __name__ == "__main__":
    run_stage(main, CleanTextParams, "clean_text")
