"""English phones against the reference's, with every deliberate difference listed and needed.

The sentences of tests/golden must differ exactly as the table says. GOLDEN_TEXT may name a folder with other
sentences (en.json): they are checked against the error rates, and the listed ones against the table.
"""

import json
import os
from pathlib import Path

import pytest
from rapidfuzz.distance import Levenshtein

from model.text.english.grapheme_to_phoneme import load_grapheme_to_phoneme
from model.text.registry import get_front_end

COMMITTED = Path(__file__).parents[3] / "golden" / "text"
GOLDEN_TEXT = Path(os.environ.get("GOLDEN_TEXT", COMMITTED))
DIFFERENCES = Path(__file__).with_name("differences.json")
MAX_SYMBOL_ERROR_RATE = 0.02
MAX_TONE_ERROR_RATE = 0.03


def read_items(folder):
    return json.loads((folder / "en.json").read_text(encoding="utf-8"))["items"]


def read_differences():
    return json.loads(DIFFERENCES.read_text(encoding="utf-8"))["differences"]


@pytest.fixture(scope="module")
def golden():
    return read_items(GOLDEN_TEXT)


@pytest.fixture(scope="module")
def where_the_reference_is_right(golden):
    wrong = {entry["text"] for entry in read_differences() if entry["kind"] == "reference_wrong"}
    return [item for item in golden if item["text"] not in wrong]


def our_sequence(text):
    front_end = get_front_end("EN")
    return front_end.to_phones(front_end.normalise(text))


def bare(item, key):
    """An item's phones or tones without the pads that some folders give at both ends."""
    padded = item["phones"][:1] == ["_"] and item["phones"][-1:] == ["_"]
    return item[key][1:-1] if padded else item[key]


def replace_once(phones, old, new, start):
    """The phones with the first run equal to `old` at or after `start` replaced, and where to go on."""
    for index in range(start, len(phones) - len(old) + 1):
        if phones[index : index + len(old)] == old:
            return [*phones[:index], *new, *phones[index + len(old) :]], index + len(new)
    return None, start


def corrected(item):
    """The reference's phones with the listed differences put in, in their order."""
    expected, position = list(bare(item, "phones")), 0
    for entry in (entry for entry in read_differences() if entry["text"] == item["text"]):
        replaced, position = replace_once(expected, entry["reference"].split(), entry["ours"].split(), position)
        assert replaced is not None, f"{item['text']}: the reference has no {entry['reference']!r}; drop the entry"
        expected = replaced
    return expected


@pytest.mark.parametrize("item", read_items(COMMITTED), ids=lambda item: item["text"][:40])
def test_a_committed_sentence_differs_from_the_reference_exactly_as_listed(item):
    # Equality both ways: an unlisted difference fails, and so does a listed one that is gone.
    assert " ".join(our_sequence(item["text"]).phones) == " ".join(corrected(item))


def test_every_listed_difference_is_about_a_committed_sentence_and_says_why():
    sentences = {item["text"] for item in read_items(COMMITTED)}
    for entry in read_differences():
        assert entry["text"] in sentences, f"{entry['text']}: not a golden sentence; drop the entry"
        assert entry["reason"] and entry["reference"] != entry["ours"]
        assert entry["kind"] in ("reference_wrong", "dictionary_version")


def test_golden_listed_differences_occur_as_listed(golden):
    listed = {entry["text"] for entry in read_differences()}
    for item in golden:
        if item["text"] in listed:
            assert " ".join(our_sequence(item["text"]).phones) == " ".join(corrected(item)), item["text"]


def test_golden_symbol_error_rate_is_small_where_the_reference_is_right(where_the_reference_is_right):
    edits = {
        item["text"]: Levenshtein.distance(our_sequence(item["text"]).phones, bare(item, "phones"))
        for item in where_the_reference_is_right
    }
    total = sum(len(bare(item, "phones")) for item in where_the_reference_is_right)
    assert total > 0
    assert sum(edits.values()) / total <= MAX_SYMBOL_ERROR_RATE, {text: count for text, count in edits.items() if count}


def test_golden_tones_agree_where_the_phones_do(golden):
    pairs = []
    for item in golden:
        sequence = our_sequence(item["text"])
        if list(sequence.phones) == bare(item, "phones"):
            pairs += zip(sequence.tones, bare(item, "tones"), strict=True)
    assert pairs
    # The reference's older dictionary stresses five syllables of the committed sentences otherwise.
    assert sum(ours != theirs for ours, theirs in pairs) / len(pairs) <= MAX_TONE_ERROR_RATE


@pytest.mark.parametrize("word", ["dspgan", "vocoder", "unmute", "xiaoming", "zygotes", "tenthirty", "gpt"])
def test_network_predicts_what_the_reference_predicted(word):
    sentence = next(item for item in read_items(COMMITTED) if word in item["oov_predicted"])
    phones = [phone.rstrip("012").lower() for phone in load_grapheme_to_phoneme().predict(word)]
    predicted = ["V" if phone == "v" else phone for phone in phones]
    assert predicted and replace_once(bare(sentence, "phones"), predicted, [], 0)[0] is not None, predicted
