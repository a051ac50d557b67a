"""The sounds of an evaluation come back as they were written, and what is missing is named."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stages.common.errors import PipelineError
from stages.evaluate.renditions import TABLE, file_stem, has_renditions, read_renditions, write_flac, write_renditions
from stages.metrics.rendition import VERSIONS
from tests.model.full_disk import files_up_to
from tests.stages.speech_sounds import RATE_HZ, make_rendition, make_vowel


def test_what_is_written_is_read(tmp_path: Path) -> None:
    one, two = make_rendition("ada/one"), make_rendition("ada/two", recording_durations_frames=None)
    assert not has_renditions(tmp_path)
    write_renditions(tmp_path, [one, two], {"facts": {"steps": "5"}})
    read = read_renditions(tmp_path)
    assert has_renditions(tmp_path) and read.about == {"facts": {"steps": "5"}}
    assert {name: tuple(versions) for name, versions in read.by_utterance.items()} == {
        "ada/one": VERSIONS,
        "ada/two": VERSIONS,
    }
    for version in VERSIONS:
        stored = read.by_utterance["ada/one"][version]
        assert soundfile.info(stored.audio).subtype == "PCM_16" and soundfile.info(stored.audio).format == "FLAC"
        assert np.abs(stored.samples() - one.waveform(version)).max() <= 1 / 32768
        assert (stored.speaker, stored.text, stored.sample_rate_hz, stored.phones) == (
            one.speaker,
            one.text,
            RATE_HZ,
            one.phones,
        )
    assert read.by_utterance["ada/two"]["recording"].phone_seconds == []
    recording, resynthesis = (read.by_utterance["ada/one"][version].durations_frames for version in VERSIONS[:2])
    assert recording == resynthesis == (8, 12, 20, 25, 16)
    spoken = read.by_utterance["ada/one"]["synthesis"].phone_seconds
    assert (
        spoken[:2] == [("_", 0.0, pytest.approx(0.16)), ("g", pytest.approx(0.16), pytest.approx(0.4))]
        and len(spoken) == 5
    )


def test_the_pitch_is_that_of_the_sound(tmp_path: Path) -> None:
    write_renditions(tmp_path, [make_rendition("one", recording=make_vowel(140, 1.0))], {})
    f0_hz = read_renditions(tmp_path).by_utterance["one"]["recording"].f0_hz
    assert len(f0_hz) == 201 and np.median(f0_hz[f0_hz > 0]) == pytest.approx(140, rel=0.01)


def test_no_sound_is_too_odd_to_keep(tmp_path: Path) -> None:
    odd = make_rendition(
        "one", synthesis=np.zeros(0, dtype=np.float32), resynthesis=np.full(99, np.nan, dtype=np.float32)
    )
    write_renditions(tmp_path, [odd], {})
    versions = read_renditions(tmp_path).by_utterance["one"]
    assert versions["synthesis"].samples().tolist() == [0.0] and not versions["resynthesis"].samples().any()
    assert len(versions["resynthesis"].f0_hz) == 0


def test_a_full_disk_is_an_error_of_the_system(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, 20_000).astype(np.float32)
    with files_up_to(5000), pytest.raises(OSError, match="File too large"):
        write_flac(tmp_path / "a.flac", noise, RATE_HZ)


def test_the_same_renditions_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_renditions(tmp_path / name, [make_rendition("one")], {"facts": {"b": "1", "a": "2"}})
    files = [path for path in (tmp_path / "first").rglob("*.*") if path.is_file()]
    assert len(files) == 4
    for path in files:
        assert path.read_bytes() == (tmp_path / "second" / path.relative_to(tmp_path / "first")).read_bytes()


def test_what_is_missing_or_broken_is_named_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"renditions.parquet cannot be read .*dvc"):
        read_renditions(tmp_path)
    write_renditions(tmp_path, [make_rendition("one")], {})
    next((tmp_path / "audio").glob("*-synthesis.flac")).unlink()
    with pytest.raises(PipelineError, match=r"001-one-synthesis.flac: no such file.*dvc"):
        read_renditions(tmp_path)
    (tmp_path / TABLE).write_bytes(b"PAR1")
    with pytest.raises(PipelineError, match="cannot be read"):
        read_renditions(tmp_path)


@pytest.mark.parametrize("utterance_id", ["../../etc/passwd", "a b?.wav", "语音", "x" * 300, ""])
def test_file_names_are_safe(utterance_id: str) -> None:
    assert re.fullmatch(r"007[A-Za-z0-9_-]{0,61}", file_stem(7, utterance_id))
