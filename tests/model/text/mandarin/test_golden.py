"""Mandarin phones and tones against the reference's, with every deliberate difference listed and needed.

The sentences of tests/golden must differ exactly as the table says. GOLDEN_TEXT may name a folder with other
sentences (zh.json): they are checked against the error rates, and the listed ones against the table.
"""

import json
import os
from pathlib import Path

import pytest
from rapidfuzz.distance import Levenshtein

from model.text.registry import get_front_end

COMMITTED = Path(__file__).parents[3] / "golden" / "text"
GOLDEN_TEXT = Path(os.environ.get("GOLDEN_TEXT", COMMITTED))
DIFFERENCES = Path(__file__).with_name("differences.json")
MAX_PHONE_ERROR_RATE = 0.02
MAX_TONE_ERROR_RATE = 0.03
# Normalised otherwise than by the reference: the telephone number.
OTHERWISE_NORMALISED = {"我的手机号码是13800138000。": "我的手机号码是一三八零零一三八零零零."}


def read_items(folder):
    return json.loads((folder / "zh.json").read_text(encoding="utf-8"))["items"]


def read_differences():
    return json.loads(DIFFERENCES.read_text(encoding="utf-8"))["differences"]


@pytest.fixture(scope="module")
def where_the_reference_is_right():
    listed = {entry["text"] for entry in read_differences()}
    return [item for item in read_items(GOLDEN_TEXT) if item["text"] not in listed]


def our_sequence(text):
    front_end = get_front_end("ZH")
    return front_end.to_phones(front_end.normalise(text))


def syllables(phones, tones, word2ph):
    """One string a character: its phones and their tone."""
    start, spoken = 0, []
    for count in word2ph:
        assert len(set(tones[start : start + count])) == 1
        spoken.append(" ".join([*phones[start : start + count], str(tones[start])]))
        start += count
    return spoken


def without_pads(item):
    return item["phones"][1:-1], item["tones"][1:-1], item["word2ph"][1:-1]


def replaced(run, entry):
    """The syllables with the first run of the entry's reference reading replaced; None where there is none."""
    old, new = entry["reference"].split(" | "), entry["ours"].split(" | ")
    for start in range(len(run) - len(old) + 1):
        # A syllable that is right elsewhere in the sentence is told apart by what our reading is there.
        if run[start : start + len(old)] == old:
            yield [*run[:start], *new, *run[start + len(old) :]]


def corrected(item):
    """All the ways in which the sentence's entries can be put into the reference's syllables."""
    runs = [syllables(*without_pads(item))]
    for entry in (entry for entry in read_differences() if entry["text"] == item["text"]):
        runs = [changed for run in runs for changed in replaced(run, entry)]
        assert runs, f"{item['text']}: the reference has no {entry['reference']!r}; drop the entry"
    return runs


def test_golden_sentences_differ_exactly_as_listed():
    items = read_items(COMMITTED)
    assert {entry["text"] for entry in read_differences()} <= {item["text"] for item in items}
    for item in items:
        ours = our_sequence(item["text"])
        assert syllables(ours.phones, ours.tones, ours.word2ph) in corrected(item), item["text"]


def test_listed_differences_are_differences_with_reasons():
    for entry in read_differences():
        assert entry["reason"] and entry["reference"] != entry["ours"], entry


def test_golden_sentences_are_normalised_as_the_reference_does_or_as_listed():
    front_end = get_front_end("ZH")
    for item in read_items(COMMITTED):
        assert front_end.normalise(item["text"]) == OTHERWISE_NORMALISED.get(item["text"], item["norm"])


def test_golden_phone_error_rate_is_small_where_the_reference_is_right(where_the_reference_is_right):
    pairs = [(our_sequence(item["text"]).phones, without_pads(item)[0]) for item in where_the_reference_is_right]
    errors = sum(Levenshtein.distance(ours, theirs) for ours, theirs in pairs)
    assert len(pairs) >= 15
    assert errors / sum(len(theirs) for _, theirs in pairs) <= MAX_PHONE_ERROR_RATE


def test_golden_tone_error_rate_is_small_where_the_reference_is_right(where_the_reference_is_right):
    pairs = [(our_sequence(item["text"]).tones, without_pads(item)[1]) for item in where_the_reference_is_right]
    errors = sum(Levenshtein.distance(ours, theirs) for ours, theirs in pairs)
    assert errors / sum(len(theirs) for _, theirs in pairs) <= MAX_TONE_ERROR_RATE
