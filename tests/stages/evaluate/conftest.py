"""The pages of one and of two evaluations."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.evaluate.listening.listening import ONLY, write_listening_page
from tests.stages.evaluate.evaluations import write_evaluation
from tests.stages.speech_sounds import make_rendition, make_row

TEXTS = {"ada/1": "Zebras run", "ada/2": "Good morning", "ben/3": "A quiet evening", "ben/4": "Maybe tomorrow"}
MOS = {"ada/1": 2.0, "ada/2": float("nan"), "ben/3": 4.0, "ben/4": 3.0}
SHIFTS = {"ada/1": 0.5, "ada/2": 0.0, "ben/3": -0.5, "ben/4": 0.25}  # of the new voice's predicted naturalness


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses: `one` of a page of one evaluation, `two` of a page of the voices old and new."""
    folder = tmp_path_factory.mktemp("listening")
    renditions = [
        make_rendition(name, text, speaker=name[:3], language="EN" if name < "b" else "JP")
        for name, text in TEXTS.items()
    ]
    for side, share in (("old", 0), ("new", 1)):
        rows = [
            make_row(
                utterance_id=one.utterance_id,
                text=one.text,
                speaker=one.speaker,
                language=one.language,
                transcript="good evening",
                mos=MOS[one.utterance_id] + share * SHIFTS[one.utterance_id],
            )
            for one in renditions
        ]
        write_evaluation(folder / side, renditions, rows)
    write_listening_page(folder / "one.html", {ONLY: folder / "old"}, "Listening to one")
    write_listening_page(folder / "two.html", {side: folder / side for side in ("old", "new")}, "Listening to two")
    return {name: Path(folder / f"{name}.html").as_uri() for name in ("one", "two")}
