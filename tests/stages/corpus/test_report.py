"""The corpus report: a page from recordings and transcripts alone, that owns nothing but itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from stages.common.errors import PipelineError
from stages.corpus import stage as corpus
from stages.corpus.params import CorpusParams
from stages.corpus.quality import QualityParams
from stages.corpus.report_plots import histogram
from tests.small_corpus import CORPUS_VALUES, ROOT, copy_prompts, folder_bytes, write_transcripts

pytestmark = pytest.mark.usefixtures("workspace")


class Page(HTMLParser):
    """What a page shows and asks for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.sources: list[str] = []
        self.pictures_without_words = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.sources += [str(found[name]) for name in ("src", "href") if name in found]
        self.pictures_without_words += tag == "img" and not found.get("alt")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def recordings(extra: dict[str, str] | None = None) -> None:
    Path("recordings/allison").mkdir(parents=True)
    random = np.random.default_rng(0)
    soundfile.write("recordings/allison/<b>hum & 'noise'.wav", random.normal(0, 0.1, (50000, 2)), 44100)
    soundfile.write("recordings/allison/short.flac", random.normal(0, 0.1, 100), 16000)
    texts = {
        "allison/<b>hum & 'noise'.wav": "<script>alert(1)</script> 谢谢",
        "allison/short.flac": "Hi.",
        "allison/lost.wav": "Gone.",
    }
    write_transcripts(
        Path("recordings/transcripts.csv"), {**copy_prompts(Path("recordings")), **texts, **(extra or {})}
    )


def values(**changes: Any) -> dict[str, Any]:
    return {**CORPUS_VALUES, "non_speech_pattern": "☎", **changes}


def write(page: str = "page.html", **changes: Any) -> Page:
    corpus.report(Path(page), CorpusParams(**values(**changes)))
    path = Path(page) if page.endswith(".html") else Path(page) / "index.html"
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_counts_ranks_escapes_texts_and_needs_no_network() -> None:
    recordings()
    page = write(quality=QualityParams(max_noise_floor_dbfs=-24.0), max_reject_share=0.9)
    assert "Utterances kept 12" in page.text and "Rejected 3" in page.text
    assert re.search(r"allison EN person 12 0\.\d", page.text) and re.search(r"g722 16,000 Hz 1 12 0\.\d", page.text)
    assert (
        "noisy 1 corpus.quality.max_noise_floor_dbfs" in page.text and "Limit: max_noise_floor_dbfs = −24." in page.text
    )
    assert (
        "too_short 1 corpus.min_seconds allison/short 0.01 s, less than" in page.text
        and "missing_audio 1 allison/lost.wav" in page.text
    )
    assert "allison/<b>hum & 'noise'.wav rejected" in page.text, "what was measured and rejected is among the extremes"
    assert "0 of the samples in every recording" in page.text, "there is no distribution of a single value"
    assert "A run would stop here" not in page.text
    assert page.sources and all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert page.pictures_without_words == 0
    assert "<script>alert(1)</script> 谢谢" in page.text and "<script>" not in Path("page.html").read_text(
        encoding="utf-8"
    )


def test_a_corpus_of_which_nothing_is_kept_still_has_its_page() -> None:
    recordings({f"allison/{number}.wav": "Nobody recorded me." for number in range(20)})
    page = write(min_seconds=30.0)
    assert "A run would stop here" in page.text and "Utterances kept 0" in page.text


def test_the_page_replaces_itself_with_the_same_bytes_and_nothing_else_is_written() -> None:
    recordings()
    before = folder_bytes(Path("recordings"))
    write("deep/folder")
    first = Path("deep/folder/index.html").read_bytes()
    write("deep/folder")
    assert Path("deep/folder/index.html").read_bytes() == first
    assert folder_bytes(Path("recordings")) == before
    assert sorted(path.name for path in Path(".").iterdir()) == ["deep", "recordings", "rows"]
    assert [path.name for path in Path("deep/folder").iterdir()] == ["index.html"]


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("mine.html", "exists and is not a corpus report"),
        ("recordings/page.html", "lies in the folder of recordings"),
        ("folder.html", "is a folder; name a page"),
    ],
)
def test_what_is_not_its_own_is_left_alone(page: str, problem: str) -> None:
    recordings()
    Path("mine.html").write_text("<p>My notes</p>", encoding="utf-8")
    Path("folder.html").mkdir()
    before = folder_bytes(Path("."))
    with pytest.raises(PipelineError, match=problem):
        write(page)
    after = {name: content for name, content in folder_bytes(Path(".")).items() if not name.startswith("rows/")}
    assert after == before


def test_the_command_line_writes_it_to_the_default_path() -> None:
    recordings()
    plain = {**values(), "languages": ["EN"], "max_reject_share": 0.9, "quality": {}}
    Path("params.yaml").write_text(yaml.safe_dump({"corpus": plain}), encoding="utf-8")
    command = [sys.executable, "-m", "stages.corpus", "--report"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert Path("reports/corpus.html").is_file() and "corpus report: " in done.stderr
    assert not Path("data").exists()


def test_single_equal_and_tiny_values_make_a_histogram() -> None:
    none = np.array([])
    for values in (np.array([0.0]), np.array([-23.0, -23.0]), np.array([1e-9, 1.0])):
        assert histogram(values, none, "dB", 3.0).startswith(b"\x89PNG")
        assert histogram(none, values, "dB").startswith(b"\x89PNG")
