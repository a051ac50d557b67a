import contextlib
import time

import pytest

from model.text.english.normaliser import normalise_english
from model.text.errors import TextError

SPOKEN = {
    # cardinals, decimals, signs
    "1,234,567 people": "one million two hundred thirty-four thousand five hundred sixty-seven people",
    "28.8 kilobit": "twenty-eight point eight kilobit",
    ".5 or 0.25": "zero point five or zero point two five",
    "dropped to -12 degrees": "dropped to minus twelve degrees",
    "007": "zero zero seven",
    "100,000.50": "one hundred thousand point five zero",
    "12345678901": "one two three four five six seven eight nine zero one",
    "٣ and １２": "three and twelve",
    # years, decades, ranges
    "in 1999, 2005 and 2024": "in nineteen ninety-nine, two thousand five and twenty twenty-four",
    "1905 or 1900": "nineteen oh five or nineteen hundred",
    "the 1990s and '80s": "the nineteen nineties and eighties",
    "1999-2005": "nineteen ninety-nine to two thousand five",
    "5–10%": "five to ten percent",
    "3-4 days": "three to four days",
    # ordinals, dates
    "21st, 3rd and 1,000th": "twenty-first, third and one thousandth",
    "May 1st, 2024": "May first, twenty twenty-four",
    "Jan. 5": "January fifth",
    "on 2024-05-01": "on May first, twenty twenty-four",
    "5/1/24": "May first, twenty twenty-four",
    "1 May 2024": "first of May, twenty twenty-four",
    "You may 2 times": "You may two times",
    # times
    "at 10:30 a.m.": "at ten thirty A M.",
    "at 5 p.m. We left": "at five P M. We left",
    "from 6:05 pm on": "from six oh five P M on",
    "at 7:00 sharp": "at seven o'clock sharp",
    "at 14:00": "at fourteen hundred",
    # money
    "$3.50": "three dollars and fifty cents",
    "$1 or $0.99": "one dollar or ninety-nine cents",
    "$3.5 million": "three point five million dollars",
    "£20, 5€ and €1.01": "twenty pounds, five euros and one euro and one cent",
    "-$5": "minus five dollars",
    "$5-10 or $5–$10": "five to ten dollars or five to ten dollars",
    "$2k": "two thousand dollars",
    # telephone numbers and identifiers
    "Call 555-1234": "Call five five five, one two three four",
    "(415) 555-0199": "four one five, five five five, zero one nine nine",
    "extension 1234": "extension one two three four",
    "dial 500 or extension 8500": "dial five hundred or extension eighty-five hundred",
    "version 1.2.3": "version one dot two dot three",
    # fractions, units
    "1/2 cup, 3/4 and 2/3": "one half cup, three quarters and two thirds",
    "3 1/2 or 1½ miles": "three and a half or one and a half miles",
    "24/7": "twenty-four seven",
    "5 km at 60 km/h": "five kilometers at sixty kilometers per hour",
    "1 kg, 20 m² and -4 °C": "one kilogram, twenty square meters and minus four degrees Celsius",
    # letters with digits
    "PIN2 and 802.11b": "PIN two and eight oh two dot eleven B",
    "3D MP3s, H2O and 4x4": "three D MP threes, H two O and four by four",
    "GPT-4 and H.323": "GPT four and H three twenty-three",
    "100k users": "one hundred thousand users",
    # abbreviations
    "Mr. and Mrs. Jones": "Mister and Missus Jones",
    "Dr. Lee lives on Oak Dr.": "Doctor Lee lives on Oak Drive.",
    "St. Mary on 12 Elm St. today": "Saint Mary on twelve Elm Street today",
    "the U.S. embassy, V.M.": "the U S embassy, V M.",
    "PIN 2 V.M. left": "PIN two V M left",
    "Ph.D. vs. M.D. etc.": "P H D versus M D et cetera.",
    "e.g. this": "for example this",
    "No. 5. I said no.": "Number five. I said no.",
    "J. R. Smith": "J R Smith",
    # Roman numerals
    "Henry VIII, Chapter IV": "Henry the eighth, Chapter four",
    "World War II": "World War two",
    "King George I was": "King George the first was",
    "Then George I think": "Then George I think",
    "I, V and X": "I, V and X",
    "Paul Carter, Part VX": "Paul Carter, Part VX",
    # symbols
    "7 + 8 = 15 & 3 * 4": "seven plus eight equals fifteen and three times four",
    "press * then #": "press star then pound",
    "#1 and #tag": "number one and hashtag tag",
    "and/or yes/no": "and or yes slash no",
    # addresses
    "the file inflect.py. Next": "the file inflect dot py. Next",
    "a.b@c-d.com": "a dot b at c dash d dot com",
    "visit www.asterisk.org.": "visit W W W dot asterisk dot org.",
    "see https://x.org/a_b now": "see x dot org slash a underscore b now",
    # pauses
    "Wait?! No!! Well...": "Wait? No! Well…",
    "Hello—world – yes -- ok": "Hello, world, yes, ok",
    "well-known": "well-known",
    "one (aside) two [note]": "one, aside, two, note",
    "He said: “no”; she left": "He said, no, she left",
    "‘quoted’ it’s rock 'n' roll": "quoted it's rock 'n roll",
    "...to leave ...": "to leave…",
    # characters
    "PLEASE HOLD THE LINE": "please hold the line",
    "naïve\u00a0Zürich\u200b\x07 straße": "naive Zurich strasse",
    "trade™ mark®": "trade mark",
    "  spaced \n out  ": "spaced out",
}


@pytest.mark.parametrize("written", SPOKEN)
def test_text_is_written_as_spoken(written):
    assert normalise_english(written) == SPOKEN[written]


@pytest.mark.parametrize("spoken", SPOKEN.values())
def test_spoken_text_is_left_as_it_is(spoken):
    assert normalise_english(spoken) == spoken


@pytest.mark.parametrize(
    ("text", "reason", "named"),
    [
        ("", "no_speech", "no letters"),
        (" ...!? ", "no_speech", "no letters"),
        ("a" * 5001, "too_long", "5001 characters"),
        ("hello 你好", "unreadable_character", "U\\+4F60"),
        ("hello 🙂", "unreadable_character", "U\\+1F642 SLIGHTLY SMILING FACE"),
    ],
)
def test_text_that_cannot_be_spoken_is_refused_with_its_reason(text, reason, named):
    with pytest.raises(TextError, match=named) as caught:
        normalise_english(text)
    assert caught.value.reason_code == reason


@pytest.mark.parametrize(
    "hostile",
    [
        "1" * 2000,
        "1-" * 1000,
        "1." * 1000,
        "a." * 1000,
        "." * 2000,
        "1/" * 1000,
        "1," * 1000,
        "a@" * 1000,
        "- " * 1000,
        "('" * 1000,
        "$" * 2000,
        "I. " * 600,
    ],
)
def test_hostile_text_takes_no_long_time(hostile):
    start = time.process_time()
    with contextlib.suppress(TextError):
        normalise_english(hostile)
    assert time.process_time() - start < 1.0
