"""The voice card: figures and shares that can be checked by hand, limits from facts, and never another voice's
evaluation.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from model.checkpoints.checkpoint import checkpoint_sha256
from stages.card.stage import CardParams, main
from stages.common import manifests
from stages.common.errors import PipelineError
from stages.evaluate.scoring import ROW_SCHEMA
from stages.metrics.catalogue import BY_KEY
from tests.model.random_voices import write_random_voice
from tests.small_corpus import ROOT

PARAMS = CardParams(intended_use="Tests.", licence=None)
MINUTE = 16000 * 60
DEFAULTS: dict[str, Any] = {
    "string": "",
    "bool": False,
    "int16": 0,
    "int32": 0,
    "int64": 0,
    "float": 0.0,
    "double": 0.5,
}


def filled(kind: Any, **values: Any) -> dict[str, Any]:
    """Return a row of a schema with plain values where none are given."""
    return {field.name: values.get(field.name, DEFAULTS.get(str(field.type), [])) for field in kind}


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """A voice of two speakers, one of whom is a machine, its recordings, split and evaluation."""
    made = {name: tmp_path / name for name in ("split", "corpus", "voice", "evaluation")}
    write_random_voice(made["voice"], "istft")
    rows = [
        filled(
            manifests.SPLIT,
            utterance_id=f"{speaker}/{subset}",
            subset=subset,
            speaker=speaker,
            language=language,
            synthetic=speaker == "ben",
            n_samples=minutes * MINUTE,
        )
        for speaker, language, subset, minutes in (
            ("anna", "EN", "train", 3),
            ("ben", "ZH", "train", 1),
            ("anna", "EN", "test", 2),
        )
    ]
    manifests.write_manifest(made["split"] / "split.parquet", manifests.table_from_rows(rows, manifests.SPLIT))
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    for name in ("COPYRIGHT", "LICENSE.txt", "notes.txt", "transcripts.csv"):
        (recordings / name).write_text(f"{name}\n", encoding="utf-8")
    corpus = manifests.table_from_rows([], manifests.CORPUS, {"recordings": str(recordings)})
    manifests.write_manifest(made["corpus"] / "corpus.parquet", corpus)
    evaluate(made, checkpoint_sha256(made["voice"]))
    return made


def evaluate(folders: dict[str, Path], voice_sha256: str) -> None:
    """Write an evaluation of four utterances of ten characters: the voice gets 4 of 40 wrong, the recordings 1."""
    rows = [
        filled(
            ROW_SCHEMA,
            utterance_id=f"anna/{number}",
            speaker="anna",
            language="EN",
            characters=10,
            words=2,
            character_edits=number % 2 * 2,
            recording_character_edits=int(number == 3),
        )
        for number in range(4)
    ]
    table = manifests.table_from_rows(rows, ROW_SCHEMA, {"step": 0, "voice_sha256": voice_sha256})
    manifests.write_manifest(folders["evaluation"] / "utterances.parquet", table)


def written(folders: dict[str, Path], out: Path) -> dict[str, str]:
    main(**folders, card=out, params=PARAMS)
    return {path.name: path.read_text(encoding="utf-8") for path in out.iterdir()}


def test_the_card_has_the_facts(folders: dict[str, Path], tmp_path: Path) -> None:
    files = written(folders, tmp_path / "card")
    assert set(files) == {"card.md", "card.html", "card.json", "COPYRIGHT", "LICENSE.txt"}
    text = files["card.md"].replace("\N{NARROW NO-BREAK SPACE}", " ")
    for line in (
        "# Voice card: anna and ben",
        "| train | 2 | 4.0 |",
        "| test | 1 | 2.0 |",
        "| anna | English | a person | 1 | 3.0 |",
        "| ben | Mandarin | a machine | 1 | 1.0 |",
        "Synthetic speech: 25 % of the training speech.",
        "[LICENSE.txt](LICENSE.txt)",
        "- It was trained on English and Mandarin, and never on Japanese.",
        "- ben has 1.0 minutes of training speech",
        "- 25% of the training speech was synthetic",
        checkpoint_sha256(folders["voice"]),
    ):
        assert line in text, line
    assert (
        f"| {BY_KEY['cer'].name} | 10.0 % (" in text
        and "got 10.0 % of its characters wrong, and 2.5 % of the recordings'" in text
    )
    assert "<h1>Voice card: anna and ben</h1>" in files["card.html"] and "<td>a machine</td>" in files["card.html"]


def test_names_and_notes_load_nothing_and_hold_no_html(folders: dict[str, Path], tmp_path: Path) -> None:
    attack = "![x](http://evil/p.png)<script>alert(1)</script>\x1b[2J|"
    listing = json.loads((folders["voice"] / "metadata.json").read_text(encoding="utf-8"))
    listing["metadata"] |= {"source_note": f"First line.\n{attack}", "speakers": [f'"{attack}', "ben"]}
    (folders["voice"] / "metadata.json").write_text(json.dumps(listing), encoding="utf-8")
    evaluate(folders, checkpoint_sha256(folders["voice"]))
    params = CardParams(intended_use=attack, licence=attack)
    main(**folders, card=tmp_path / "card", params=params)
    text = (tmp_path / "card" / "card.md").read_text(encoding="utf-8")
    page = (tmp_path / "card" / "card.html").read_text(encoding="utf-8")
    assert "![" not in text and "<script" not in text and "\x1b" not in text and "First line.\n" in text
    assert "<img" not in page and "<script" not in page
    (speakers,) = [line for line in text.splitlines() if line.startswith('| "')]
    assert speakers.replace("\\|", "").count("|") == 6
    assert 'speaker="\\"' in text, "the quotation mark would end the string of the example"


def test_the_same_voice_has_the_same_card(folders: dict[str, Path], tmp_path: Path) -> None:
    assert written(folders, tmp_path / "one") == written(folders, tmp_path / "two")


def test_evaluators_are_named_where_the_evaluation_names_them(folders: dict[str, Path], tmp_path: Path) -> None:
    assert "| evaluator |" not in written(folders, tmp_path / "without")["card.md"]
    (folders["evaluation"] / "evaluators.json").write_text(
        '{"whisper": {"version": "1.2.1", "sha256": "ab"}}', encoding="utf-8"
    )
    text = written(folders, tmp_path / "card")["card.md"]
    assert "| whisper.version | 1.2.1 |" in text and "| whisper.sha256 | ab |" in text


def test_an_evaluation_of_another_voice_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    evaluate(folders, "0" * 64)
    with pytest.raises(PipelineError, match=r"is of another voice .* run `dvc repro evaluate`"):
        main(**folders, card=tmp_path / "card", params=PARAMS)
    command = [sys.executable, "-m", "stages.card", "--card", str(tmp_path / "card")]
    command += [part for name, path in folders.items() for part in (f"--{name}", str(path))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and done.stderr.startswith("error: card: ")
    assert not (tmp_path / "card").exists()
