"""Text cleaning stage: every transcript becomes normalised text and phones that belong to its words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stages import clean_text
from stages.clean_text import CleanTextParams
from stages.common import manifests
from stages.common.errors import ManifestError, PipelineError
from tests.small_corpus import SmallCorpus, folder_bytes, reasons, utterance_ids

pytestmark = pytest.mark.usefixtures("workspace")


def write_corpus(texts: dict[str, str], folder: str = "corpus", language: str = "EN") -> Path:
    """Write a corpus manifest of utterance → text."""
    common = {"speaker": "anna", "language": language, "audio_path": "x.wav", "audio_sha256": "0", "container": "wav",
              "sample_rate_hz": 16000, "n_channels": 1, "n_samples": 16000}  # fmt: skip
    Path(folder).mkdir()
    table = manifests.table_from_rows([{"utterance_id": name, "text": text, **common} for name, text in texts.items()], manifests.CORPUS)
    manifests.write_manifest(Path(folder) / "corpus.parquet", table)
    return Path(folder)


def run(corpus: Path, out: str = "out", share: float = 0.5) -> list[dict[str, Any]]:
    clean_text.main(corpus, Path(out), CleanTextParams(share))
    rows: list[dict[str, Any]] = manifests.read_manifest(Path(out) / "clean_text.parquet", manifests.CLEAN_TEXT).to_pylist()
    return rows


def test_numbers_and_abbreviations_become_words() -> None:
    rows = run(write_corpus({"a": "Dr. Smith has 21 cats."}))
    assert rows[0]["normalised"].lower().replace("-", " ") == "doctor smith has twenty one cats."


def test_phones_belong_to_words_and_words_to_the_text(small_corpus: SmallCorpus) -> None:
    rows = manifests.read_manifest(small_corpus.clean_text / "clean_text.parquet", manifests.CLEAN_TEXT).to_pylist()
    assert len(rows) == 12
    for row in rows:
        assert sum(row["word2ph"]) == len(row["phones"]) == len(row["tones"])
        assert len(row["words"]) == len(row["word2ph"]) == len(row["word_starts"]) == len(row["word_ends"])
        assert min(row["word2ph"]) >= 1
        assert all(0 <= start <= end <= len(row["normalised"]) for start, end in zip(row["word_starts"], row["word_ends"], strict=True))


def test_a_text_that_cannot_be_spoken_is_a_reject_with_the_reason() -> None:
    rows = run(write_corpus({"a": "Hello.", "b": "…", "c": "你好"}), share=0.9)
    assert [row["utterance_id"] for row in rows] == ["a"]
    rejected = reasons(Path("out"))
    assert sorted(rejected) == ["b", "c"] and all(rejected.values())


def test_a_language_without_a_front_end_is_a_reject_that_lists_the_others() -> None:
    corpus = write_corpus({"a": "Hello."}, language="XX")
    with pytest.raises(PipelineError) as caught:
        run(corpus)
    assert "1 of 1 utterances rejected (unknown_language 1)" in str(caught.value)
    assert "EN" in str(caught.value) and "\n" not in str(caught.value)
    assert not Path("out").exists()


def test_workers_history_and_order_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {f"u{index}": f"Sentence number {index} is here." for index in range(20)}
    run(write_corpus(dict(list(texts.items())[:9]), "some"), "some_out")
    run(write_corpus(texts, "all"), "all_out")
    monkeypatch.setenv("VOICE_WORKERS", "2")
    monkeypatch.setenv("VOICE_ROW_STORE", "fresh_rows")
    run(write_corpus(dict(reversed(texts.items())), "reversed"), "scratch_out")
    assert folder_bytes(Path("all_out")) == folder_bytes(Path("scratch_out"))


def test_every_corpus_utterance_is_kept_or_rejected(small_corpus: SmallCorpus) -> None:
    kept = utterance_ids(small_corpus.clean_text / "clean_text.parquet")
    assert sorted([*kept, *reasons(small_corpus.clean_text)]) == utterance_ids(small_corpus.corpus / "corpus.parquet")


def test_without_a_corpus_the_message_says_what_makes_it() -> None:
    with pytest.raises(ManifestError, match=r"corpus\.parquet: no such manifest; run `dvc repro`"):
        run(Path("nowhere"))
    assert not Path("out").exists()
