"""3,300 real clips for benchmarks: Asterisk prompts in five languages and Mandarin syllables in pairs.

No voice may be trained on them: every text is transliterated to Latin letters and labelled English, so that one front
end and one text encoder take all of them. Texts are as long as what is said, and no two are equal. They are fetched
once, into a folder outside of git and DVC.
"""

from __future__ import annotations

import csv
import logging
import shutil
import tempfile
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from bench.harness.speech import is_spoken
from pipeline.corpora import asterisk, gcin
from pipeline.corpora.asterisk import PromptSet
from pipeline.corpora.debian import download, unpack
from stages.common.files import output_folder, work_root

logger = logging.getLogger(__name__)

PROMPTS = (
    asterisk.ENGLISH,
    PromptSet("es", "allison-es", "es_MX_f_Allison"),
    PromptSet("fr", "june", "fr_CA_f_June"),
    PromptSet("it", "carlo", "it_IT_m_Carlo"),
    PromptSet("ru", "ivrvoice", "ru_RU_f_IvrvoiceRU"),
)
SYLLABLES_PER_LIST = 2
CYRILLIC = {
    "а": "a",
    "б": "b",
    "в": "v",
    "г": "g",
    "д": "d",
    "е": "e",
    "ё": "yo",
    "ж": "zh",
    "з": "z",
    "и": "i",
    "й": "y",
    "к": "k",
    "л": "l",
    "м": "m",
    "н": "n",
    "о": "o",
    "п": "p",
    "р": "r",
    "с": "s",
    "т": "t",
    "у": "u",
    "ф": "f",
    "х": "kh",
    "ц": "ts",
    "ч": "ch",
    "ш": "sh",
    "щ": "shch",
    "ы": "y",
    "э": "e",
    "ю": "yu",
    "я": "ya",
}


def folder() -> Path:
    """Return the folder of the recordings."""
    return work_root() / "bench" / "recordings"


def latin(text: str) -> str:
    """Return a text of a European language in plain Latin letters; characters without one, such as ь, are left out."""
    spelt = "".join(CYRILLIC.get(letter.lower(), letter) for letter in text)
    plain = spelt.translate(str.maketrans("’‘“”«»–—…", '\'\'""""--.'))
    return unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode("ascii")


def pinyin(characters: str) -> str:
    """Return Mandarin characters as syllables of Latin letters."""
    import pypinyin

    return " ".join(pypinyin.lazy_pinyin(characters))


def distinct(rows: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Return rows (audio, speaker, text); a text that another row has is followed by the clip's name."""
    seen: set[str] = set()
    result = []
    for audio, speaker, text in sorted(rows):
        if text.lower() in seen:
            name = " ".join(Path(audio).with_suffix("").as_posix().replace("-", " ").replace("_", " ").split("/"))
            text = f"{text.rstrip(' .')}, {name}."
        seen.add(text.lower())
        result.append((audio, speaker, text))
    return result


def fetch(out: Path) -> int:
    """Fetch recordings, transcripts.csv and the packages' copyrights into `out` and return the number of recordings.

    Raises PipelineError when apt cannot fetch a package.
    """
    rows: list[tuple[str, str, str]] = []
    with tempfile.TemporaryDirectory(prefix="bench-recordings-") as scratch, output_folder(out) as temporary:
        names = [name for prompts in PROMPTS for name in prompts.packages]
        root = unpack(download(names, Path(scratch)), Path(scratch))
        lists, _ = gcin.write_lists(temporary, SYLLABLES_PER_LIST)
        (temporary / "COPYRIGHT").rename(temporary / f"COPYRIGHT-{gcin.PACKAGE}")
        rows += [(item.audio, item.speaker, pinyin("".join(item.characters))) for item in lists]
        for prompts in PROMPTS:
            texts = asterisk.copy_prompts(prompts, root, temporary)
            shutil.copyfile(root / prompts.copyright, temporary / f"COPYRIGHT-{prompts.packages[0]}")
            spoken = {f"{prompts.speaker}/{name}.g722": text for name, text in texts.items() if is_spoken(text)}
            rows += [
                (audio, prompts.speaker, latin(text)) for audio, text in spoken.items() if (temporary / audio).is_file()
            ]
        with (temporary / "transcripts.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["audio", "speaker", "language", "text"])
            writer.writerows((audio, speaker, "EN", text) for audio, speaker, text in distinct(rows))
    return len(rows)


def fetch_once() -> Path:
    """Return the folder of the recordings, fetched if they are missing."""
    out = folder()
    if not (out / "transcripts.csv").is_file():
        logger.info("%d recordings in %s", fetch(out), out)
    return out
