"""Every language with a front end has an entry in each table by language that has no fallback."""

from __future__ import annotations

from model.text.registry import available_languages
from model.text.symbols import SymbolTable
from pipeline.serve.narrator import WARM_UP
from stages.metrics.speech_recognition import WHISPER_LANGUAGES


def test_every_language_has_tones_a_recogniser_and_a_warm_up_text() -> None:
    languages = set(available_languages())
    assert set(SymbolTable().languages) == languages
    assert set(WHISPER_LANGUAGES) == languages
    assert set(WARM_UP) == languages


def test_no_two_languages_share_a_tone_id() -> None:
    ids = [tone_id for tone_ids in SymbolTable().tones.values() for tone_id in set(tone_ids)]
    assert len(set(ids)) == len(ids)
