import json
import os
from pathlib import Path

import pytest

from model.text.errors import TextError
from model.text.front_end import PhoneSequence
from model.text.symbols import SYMBOLS, SymbolTable, encode

GOLDEN_TEXT = Path(os.environ.get("GOLDEN_TEXT", Path(__file__).parents[2] / "golden" / "text"))

HI = PhoneSequence(
    words=("hi", "."), word_spans=((0, 2), (2, 3)), phones=("hh", "ay", "."), tones=(0, 2, 0), word2ph=(2, 1)
)


def test_symbols_and_maps_are_those_of_the_reference():
    golden = json.loads((GOLDEN_TEXT / "symbols.json").read_text(encoding="utf-8"))
    table = SymbolTable()
    assert list(SYMBOLS[: len(golden["symbols"])]) == golden["symbols"]
    assert dict(table.tone_starts) == golden["language_tone_start_map"]
    assert {name: table.language_id(name) for name in table.languages} == golden["language_id_map"]
    assert table.tone_count == golden["num_tones"]


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
        ("JP", ("a",), (1,), "unknown_symbol"),
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
