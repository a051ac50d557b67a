import json
import os
from pathlib import Path

import pytest

from model.text.errors import TextError
from model.text.front_end import PhoneSequence
from model.text.symbols import SYMBOLS, SymbolTable, encode

OWN_GOLDEN = Path(__file__).parents[2] / "golden" / "text"
GOLDEN_TEXT = Path(os.environ.get("GOLDEN_TEXT", OWN_GOLDEN))
if not (GOLDEN_TEXT / "symbols.json").is_file():  # a folder of sentences alone
    GOLDEN_TEXT = OWN_GOLDEN

HI = PhoneSequence(
    words=("hi", "."), word_spans=((0, 2), (2, 3)), phones=("hh", "ay", "."), tones=(0, 2, 0), word2ph=(2, 1)
)


def test_symbols_and_maps_are_those_of_the_reference():
    golden = json.loads((GOLDEN_TEXT / "symbols.json").read_text(encoding="utf-8"))
    for table in (SymbolTable(), SymbolTable.reference()):
        assert list(table.symbols[: len(golden["symbols"])]) == golden["symbols"]
        assert {language: table.tone_id(language, 0) for language in table.languages} == golden[
            "language_tone_start_map"
        ]
        assert {name: table.language_id(name) for name in table.languages} == golden["language_id_map"]
    assert len(SymbolTable.reference().symbols) == len(golden["symbols"])
    assert SymbolTable.reference().tone_count == golden["num_tones"]


def test_high_pitch_comes_after_the_tones_of_the_reference_which_does_not_tell_it():
    golden = json.loads((GOLDEN_TEXT / "symbols.json").read_text(encoding="utf-8"))
    assert SymbolTable().tone_id("JP", 1) == golden["num_tones"] and SymbolTable().tone_count == golden["num_tones"] + 1
    assert SymbolTable.reference().tone_id("JP", 1) == SymbolTable.reference().tone_id("JP", 0) == 6
    others = [(language, tone) for language, count in (("ZH", 6), ("EN", 4)) for tone in range(count)]
    assert all(SymbolTable().tone_id(*tone) == SymbolTable.reference().tone_id(*tone) for tone in others)


def test_words_of_another_language_have_its_tones_and_language():
    table = SymbolTable()
    mixed = PhoneSequence(
        words=("你", "hi"),
        word_spans=((0, 1), (1, 3)),
        phones=("n", "i", "hh", "ay"),
        tones=(3, 3, 0, 2),
        word2ph=(2, 2),
        languages=("ZH", "EN"),
    )
    encoded = encode(mixed, "ZH", table, add_blank=False)
    assert encoded.tone_ids == (0, 3, 3, 7, 9, 0)
    assert encoded.language_ids == (0, 0, 0, 2, 2, 0)


def test_ids_of_english_phones_are_those_of_the_reference():
    golden = json.loads((GOLDEN_TEXT / "en.json").read_text(encoding="utf-8"))["items"]
    table = SymbolTable()
    for item in golden:
        assert [table.symbol_id(phone) for phone in item["phones"]] == item["phone_ids"]
        assert [table.tone_id("EN", tone) for tone in item["tones"]] == item["tone_ids"]


def test_encoding_puts_a_pad_at_both_ends():
    table = SymbolTable()
    encoded = encode(HI, "EN", table, add_blank=False)
    assert encoded.phone_ids == (0, table.symbol_id("hh"), table.symbol_id("ay"), table.symbol_id("."), 0)
    assert encoded.tone_ids == (7, 7, 9, 7, 7)
    assert encoded.language_ids == (2,) * 5
    assert encoded.word2ph == (1, 2, 1, 1)


def test_blanks_stand_around_every_phone_and_word2ph_counts_them():
    table = SymbolTable()
    plain = encode(HI, "EN", table, add_blank=False)
    spaced = encode(HI, "EN", table, add_blank=True)
    assert len(spaced.phone_ids) == 2 * len(plain.phone_ids) + 1
    for ids, blanked in (
        (plain.phone_ids, spaced.phone_ids),
        (plain.tone_ids, spaced.tone_ids),
        (plain.language_ids, spaced.language_ids),
    ):
        assert blanked[1::2] == ids and set(blanked[0::2]) == {0}
    assert spaced.word2ph == (3, 4, 2, 2) and sum(spaced.word2ph) == len(spaced.phone_ids)


def test_table_survives_a_round_trip_through_json():
    table = SymbolTable(symbols=(*SYMBOLS, "new"))
    assert SymbolTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table


def test_table_from_json_names_missing_and_unknown_keys():
    values = SymbolTable().to_dict()
    values["colour"] = values.pop("symbols")
    with pytest.raises(ValueError, match=r"symbols.*colour"):
        SymbolTable.from_dict(values)


@pytest.mark.parametrize(
    ("language", "phones", "tones", "reason"),
    [
        ("EN", ("qq",), (0,), "unknown_symbol"),
        ("EN", ("ay",), (4,), "unknown_symbol"),
        ("JP", ("a",), (2,), "unknown_symbol"),
        ("FR", ("a",), (0,), "unknown_language"),
    ],
)
def test_what_the_table_lacks_is_refused_by_name(language, phones, tones, reason):
    sequence = PhoneSequence(words=("x",), word_spans=((0, 1),), phones=phones, tones=tones, word2ph=(1,))
    with pytest.raises(TextError) as caught:
        encode(sequence, language, SymbolTable(), add_blank=False)
    assert caught.value.reason_code == reason


def test_repeated_symbols_are_refused():
    with pytest.raises(ValueError, match="more than once.*'ay'"):
        SymbolTable(symbols=("_", "ay", "ay"))
