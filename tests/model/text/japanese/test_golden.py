"""Japanese phones against OpenJTalk's reading of the whole sentence, and every difference from the reference, listed
and needed.
"""

import json
import os
import re
from pathlib import Path

import pyopenjtalk
import pytest
from rapidfuzz.distance import Levenshtein

from model.text.registry import get_front_end
from model.text.symbols import JAPANESE_PHONES, PAUSE_MARKS

GOLDEN_TEXT = Path(os.environ.get("GOLDEN_TEXT", Path(__file__).parents[3] / "golden" / "text"))
DIFFERENCES = Path(__file__).with_name("differences.json")
KINDS = {"long vowel", "compound reading", "number", "reading", "consonant", "pause"}
# OpenJTalk's label names in the symbol table's spelling.
RESPELLED = {"cl": "q", "v": "V", "kw": "k w", "gw": "g w", "fy": "f y"}
OWN_SENTENCES = [
    "東京都に住む一人の老人が、二十日の朝に亡くなった。",
    "ヴェネツィアでティラミスとカフェオレを注文しました。",
    "お兄さんは今日は休みだけれど、明後日は学校へ行くそうだ。",
    "八百屋で大根を三本、きゅうりを六本、卵を十個買いました。",
    "「どうしてそんなことを言うの？」と、彼女は小さな声で尋ねた。",
    "二〇二四年の売り上げは一億二千万円だった。",
    "びっくりして、ちょっとだけ笑っちゃった！",
    "デュエットのチューニングにウォーターフロントのフェスティバル。",
]


def golden():
    return json.loads((GOLDEN_TEXT / "jp.json").read_text(encoding="utf-8"))["items"]


def differences():
    return json.loads(DIFFERENCES.read_text(encoding="utf-8"))["differences"]


def our_sequence(text):
    front_end = get_front_end("JP")
    return front_end.to_phones(front_end.normalise(text))


def japanese_phones(sequence):
    return [
        phone
        for phone, language in zip(sequence.phones, sequence.phone_languages, strict=True)
        if language == "JP" and phone not in PAUSE_MARKS
    ]


def whole_sentence_labels(text):
    """Phones and pitches in OpenJTalk's full-context labels of the text as it is written."""
    phones, pitches = [], []
    for label in pyopenjtalk.extract_fullcontext(text):
        phone = re.search(r"-(.+?)\+", label)[1]
        if phone in ("sil", "pau"):
            continue
        # A: moras after the accent nucleus, place of the mora in the phrase; F: the phrase's nucleus, 0 for none.
        distance, place = map(int, re.search(r"/A:(-?\d+)\+(\d+)\+", label).groups())
        nucleus = int(re.search(r"/F:\d+_(\d+)", label)[1])
        high = place == 1 if nucleus == 1 else place > 1 and (nucleus == 0 or distance <= 0)
        spelled = RESPELLED.get(phone, phone.lower() if phone in "AIUEO" else phone).split()
        phones += spelled
        pitches += [int(high)] * len(spelled)
    return phones, pitches


def replace_once(phones, old, new, start):
    """The phones with the first run equal to `old` at or after `start` replaced, and where to go on."""
    for index in range(start, len(phones) - len(old) + 1):
        if phones[index : index + len(old)] == old:
            return [*phones[:index], *new, *phones[index + len(old) :]], index + len(new)
    return None, start


def test_symbol_error_rate_against_the_whole_sentence_labels_is_nothing_on_golden_sentences():
    # Sentences with Latin letters are English in part, which OpenJTalk reads as Japanese.
    texts = [
        text
        for text in [*(item["text"] for item in golden()), *OWN_SENTENCES]
        if not re.search(r"[A-Za-zＡ-Ｚａ-ｚ]", text)
    ]
    errors = length = 0
    for text in texts:
        expected, _ = whole_sentence_labels(get_front_end("JP").normalise(text))
        errors += Levenshtein.distance(japanese_phones(our_sequence(text)), expected)
        length += len(expected)
    assert len(texts) >= 8 and errors == 0, errors / length


@pytest.mark.parametrize(
    "text",
    [
        "りんごを3個ください。",
        "東京タワーの高さは333メートルです。",
        "この料理は1,200円です。",
        "新幹線は時速300キロで走ります。",
        "気温は36.5度まで上がった。",
    ],
)
def test_number_of_a_golden_sentence_is_read_as_openjtalk_reads_its_digits(text):
    expected, _ = whole_sentence_labels(text)
    assert japanese_phones(our_sequence(text)) == expected


def test_pitch_is_that_of_the_labels_on_golden_sentences():
    for text in [*(item["text"] for item in golden()), *OWN_SENTENCES]:
        sequence = our_sequence(text)
        if "EN" in sequence.languages:
            continue
        _, expected = whole_sentence_labels(get_front_end("JP").normalise(text))
        ours = [tone for phone, tone in zip(sequence.phones, sequence.tones, strict=True) if phone not in PAUSE_MARKS]
        assert ours == expected, text


def test_golden_sentences_use_the_tables_japanese_symbols_and_keep_their_counts():
    for item in golden():
        sequence = our_sequence(item["text"])
        assert set(japanese_phones(sequence)) <= JAPANESE_PHONES
        assert sum(sequence.word2ph) == len(sequence.phones) == len(sequence.tones)
        assert set(sequence.tones) <= ({0, 1} if "EN" not in sequence.languages else {0, 1, 2, 3})


def test_every_golden_difference_from_the_reference_is_listed_and_every_listed_one_exists():
    listed = differences()
    assert {entry["kind"] for entry in listed} <= KINDS
    sentences = {item["text"]: item["phones"][1:-1] for item in golden()}
    for text in {entry["text"] for entry in listed} & set(sentences):
        expected, position = list(sentences[text]), 0
        for entry in (entry for entry in listed if entry["text"] == text):
            assert entry["reason"] and entry["word"] and entry["reference"] != entry["ours"]
            replaced, position = replace_once(expected, entry["reference"].split(), entry["ours"].split(), position)
            assert replaced is not None, f"{text}: the reference has no {entry['reference']!r}; drop the entry"
            expected = replaced
        # Equality both ways: an unlisted difference fails, and so does a listed one that is gone.
        assert " ".join(our_sequence(text).phones) == " ".join(expected), text


def test_shipped_golden_sentences_without_a_listed_difference_are_the_references():
    listed = {entry["text"] for entry in differences()}
    shipped = json.loads((Path(__file__).parents[3] / "golden" / "text" / "jp.json").read_text(encoding="utf-8"))[
        "items"
    ]
    same = [item for item in shipped if item["text"] not in listed]
    assert listed <= {item["text"] for item in shipped} and len(same) >= 5
    for item in same:
        assert list(our_sequence(item["text"]).phones) == item["phones"][1:-1], item["text"]


@pytest.mark.parametrize(
    "entry", [entry for entry in differences() if entry["kind"] == "long vowel"], ids=lambda entry: entry["word"]
)
def test_golden_long_vowel_difference_only_lengthens_a_vowel(entry):
    reference, ours = entry["reference"].split(), entry["ours"].split()
    kept = [phone for index, phone in enumerate(ours) if index == 0 or phone != ours[index - 1] or phone not in "aiueo"]
    assert [
        phone
        for index, phone in enumerate(reference)
        if index == 0 or phone != reference[index - 1] or phone not in "aiueo"
    ] == kept
    assert len(ours) > len(reference)
