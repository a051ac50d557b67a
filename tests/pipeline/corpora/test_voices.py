"""The voices' programs: whole files, one-line errors, nothing left running."""

from __future__ import annotations

import sys
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpora import speaking_program, voices
from pipeline.corpora.voices import SpeechTask, prepare_environment, speak_all
from stages.common.errors import PipelineError


def test_a_voice_gets_silence_around_it_and_is_never_clipped() -> None:
    rate = speaking_program.SAMPLE_RATE_HZ
    samples = np.zeros(rate, dtype=np.float32)
    samples[1000:3000] = 1.2
    framed = speaking_program.with_silence(samples)
    margin = int(speaking_program.SILENCE_SECONDS * rate)
    assert len(framed) == 2000 + 2 * margin
    assert not framed[:margin].any() and not framed[-margin:].any()
    assert framed.max() == pytest.approx(speaking_program.PEAK)


def test_a_quiet_voice_keeps_its_level() -> None:
    assert speaking_program.with_silence(np.full(100, 0.2)).max() == pytest.approx(0.2)


def test_a_voice_that_says_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="is silent"):
        speaking_program.with_silence(np.zeros(1000))


def test_clips_are_16_bit_mono(tmp_path: Path) -> None:
    speaking_program.write_wave(tmp_path / "a.wav", np.array([0.0, 1.0, -1.0, 0.5]))
    with wave.open(str(tmp_path / "a.wav")) as stream:
        assert (stream.getnchannels(), stream.getsampwidth(), stream.getframerate()) == (
            1,
            2,
            speaking_program.SAMPLE_RATE_HZ,
        )
        assert np.frombuffer(stream.readframes(4), "<i2").tolist() == [0, 32767, -32767, 16384]
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def clips(folder: Path, count: int) -> list[SpeechTask]:
    return [
        SpeechTask(str(folder / f"{number}.wav"), "kokoro", "jf_alpha", "JP", "はい。", "") for number in range(count)
    ]


def environment_with(program: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an environment that has this Python and runs `program` in the speaking program's place."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    (folder / "bin" / "python").chmod(0o755)
    (folder / "program.py").write_text(program, encoding="utf-8")
    monkeypatch.setattr(voices, "PROGRAM", folder / "program.py")
    return folder


WRITER = """
import json, pathlib, sys
for line in sys.stdin:
    clip = json.loads(line)
    pathlib.Path(clip["path"]).write_text(clip["text"], encoding="utf-8")
    print(clip["path"], flush=True)
"""


@pytest.mark.parametrize("n_workers", ["1", "3"])
def test_programs_share_the_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_workers: str) -> None:
    monkeypatch.setenv("VOICE_WORKERS", n_workers)
    environment = environment_with(WRITER, tmp_path / "environment", monkeypatch)
    done: list[int] = []
    speak_all(environment, clips(tmp_path / "speaker", 7), lambda: done.append(1))
    assert len(done) == 7
    assert [path.read_text(encoding="utf-8") for path in sorted((tmp_path / "speaker").iterdir())] == ["はい。"] * 7


def test_without_clips_nothing_starts(tmp_path: Path) -> None:
    speak_all(tmp_path / "nowhere", [], lambda: None)


def test_a_program_that_fails_is_one_line_and_keeps_what_it_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOICE_WORKERS", "1")
    failing = WRITER.replace(
        "for line in sys.stdin:", "for line in sys.stdin:\n    if '2.wav' in line: raise ValueError('no such voice')"
    )
    environment = environment_with(failing, tmp_path / "environment", monkeypatch)
    with pytest.raises(
        PipelineError, match=r"ended with status 1 \(ValueError: no such voice\); finished clips are kept"
    ) as caught:
        speak_all(environment, clips(tmp_path / "speaker", 4), lambda: None)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in (tmp_path / "speaker").iterdir()) == ["0.wav", "1.wav"]


def test_the_speaking_program_itself_fails_in_one_line_without_its_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = voices.PROGRAM.read_text(encoding="utf-8")
    environment = environment_with(program, tmp_path / "environment", monkeypatch)
    with pytest.raises(PipelineError, match="No module named"):
        speak_all(environment, clips(tmp_path / "speaker", 1), lambda: None)
    assert not list((tmp_path / "speaker").iterdir())


def write_wheel(folder: Path) -> None:
    """Write an installable package, `unhashed`."""
    folder.mkdir()
    with zipfile.ZipFile(folder / "unhashed-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in {
            "METADATA": "Metadata-Version: 2.1\nName: unhashed\nVersion: 1.0\n",
            "WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "RECORD": "",
        }.items():
            wheel.writestr(f"unhashed-1.0.dist-info/{name}", text)


def test_an_environment_is_installed_once_per_lock_and_a_failure_names_command_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "voices.lock").write_text("", encoding="utf-8")
    monkeypatch.setattr(voices, "ASSEMBLE_KOKORO", "")
    python = prepare_environment(tmp_path / "environment", tmp_path / "voices.lock")
    made = (tmp_path / "environment" / "pyvenv.cfg").stat().st_mtime_ns
    assert python.exists() and prepare_environment(tmp_path / "environment", tmp_path / "voices.lock") == python
    assert (tmp_path / "environment" / "pyvenv.cfg").stat().st_mtime_ns == made
    write_wheel(tmp_path / "wheels")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    (tmp_path / "voices.lock").write_text("unhashed==1.0\n", encoding="utf-8")
    with pytest.raises(
        PipelineError, match=r"pip install .* failed \(ERROR: .*check the network and pip's settings"
    ) as caught:  # a package without a hash is not installed
        prepare_environment(tmp_path / "environment", tmp_path / "voices.lock")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "environment" / "pyvenv.cfg").stat().st_mtime_ns != made
    assert not (tmp_path / "environment" / voices.READY).exists()
