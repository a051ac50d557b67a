"""Readers of the supported transcript formats."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.common.errors import StageError

AUDIO_COLUMNS = ("audio", "path", "file", "wav")
OPTIONAL_COLUMNS = ("speaker", "language", "synthetic")
BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False, "": False}


@dataclass(frozen=True, slots=True)
class TranscriptLine:
    """One utterance of a transcript file; speaker and language are empty where the file does not name them.

    `synthetic` marks recordings of synthetic speech.
    """

    audio: str
    text: str
    speaker: str = ""
    language: str = ""
    synthetic: bool = False


def read_transcripts(path: Path, kind: str) -> list[TranscriptLine]:
    """Read a transcript file.

    `table`: CSV, TSV or Parquet with a header: audio, text and optionally speaker, language, synthetic (true or false).
    `bert_vits2`: lines ``wav|speaker|language|text``. `ljspeech`: lines ``id|text`` or ``id|text|normalised text``.
    `auto`: by suffix and by the first line. Bytes that are not UTF-8 stay in a line's text, where `undecodable_bytes`
    finds them. If the first line or half of the lines have such bytes, the file is in another encoding and refused.
    Raises StageError naming the file, the line and the remedy.
    """
    if not path.is_file():
        raise StageError(None, path, "no such transcript file; set corpus.transcripts in params.yaml")
    if path.suffix == ".parquet":
        return _from_parquet(path)
    text = _decoded(path)
    if not text.strip():
        raise StageError(None, path, "the transcript file is empty")
    kind = _guess(path, text) if kind == "auto" else kind
    if kind == "table":
        return _from_table(path, text)
    return _from_piped(path, text, kind)


def undecodable_bytes(text: str) -> list[int]:
    """Return the bytes of a transcript that were not UTF-8, in order."""
    return [ord(character) - 0xDC00 for character in text if "\udc80" <= character <= "\udcff"]


def _decoded(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text = data.decode("utf-8-sig", errors="surrogateescape")
        damaged = [bool(undecodable_bytes(line)) for line in text.splitlines() if line.strip()]
        if damaged[0] or 2 * sum(damaged) >= len(damaged):
            raise StageError(
                None, path, f"not UTF-8 at byte {error.start}; convert it, e.g. `iconv -f latin1 -t utf-8`"
            ) from None
        return text


def _line(audio: str, text: str, speaker: str = "", language: str = "", synthetic: bool = False) -> TranscriptLine:
    """Return a line in whose names bytes that are not UTF-8 are escaped as \\xNN."""
    audio, speaker, language = (
        name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        for name in (audio, speaker, language)
    )
    return TranscriptLine(audio, text, speaker, language, synthetic)


def _guess(path: Path, text: str) -> str:
    first = text.lstrip().splitlines()[0]
    if "|" not in first:
        return "table"
    return "bert_vits2" if first.count("|") >= 3 and path.suffix != ".csv" else "ljspeech"


def _from_parquet(path: Path) -> list[TranscriptLine]:
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise StageError(None, path, f"not a readable Parquet file: {str(error).splitlines()[0]}") from None
    return _from_records(path, table.column_names, table.to_pylist())


def _from_table(path: Path, text: str) -> list[TranscriptLine]:
    delimiter = "\t" if path.suffix == ".tsv" or "\t" in text.splitlines()[0] else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    records = []
    try:
        for record in reader:
            if None in record:
                raise StageError(
                    None,
                    f"{path}:{reader.line_num}",
                    f"more fields than the header has; put texts that hold {delimiter!r} in double quotes",
                )
            records.append(record)
        return _from_records(path, list(reader.fieldnames or []), records)
    except csv.Error as error:
        raise StageError(
            None, f"{path}:{reader.line_num}", f"not readable as a table ({error}); is a closing double quote missing?"
        ) from None


def _from_records(path: Path, columns: list[str], records: Iterable[dict[str, object]]) -> list[TranscriptLine]:
    audio_columns = [name for name in AUDIO_COLUMNS if name in columns]
    if not audio_columns or "text" not in columns:
        missing = " and ".join(
            name for name, present in (("audio", audio_columns), ("text", "text" in columns)) if not present
        )
        raise StageError(
            None,
            path,
            f"column {missing} is missing; columns found: {', '.join(columns) or 'none'}; "
            f"expected audio, text and optionally {', '.join(OPTIONAL_COLUMNS)}",
        )
    audio_column = audio_columns[0]
    lines = []
    for record in records:
        audio, text, speaker, language = (
            str(record.get(name) or "").strip() for name in (audio_column, "text", "speaker", "language")
        )
        lines.append(_line(audio, text, speaker, language, _boolean(path, record, audio_column)))
    return lines


def _boolean(path: Path, record: Mapping[str, object], audio_column: str) -> bool:
    cell = record.get("synthetic")
    value = "" if cell is None else str(cell).strip().lower()
    if value not in BOOLEANS:
        raise StageError(None, path, f"synthetic is {value!r} for {record.get(audio_column)!r}; expected true or false")
    return BOOLEANS[value]


def _from_piped(path: Path, text: str, kind: str) -> list[TranscriptLine]:
    lines = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        parts = [part.strip() for part in line.split("|")]
        if kind == "bert_vits2" and len(parts) >= 4:
            lines.append(_line(parts[0], "|".join(parts[3:]), parts[1], parts[2]))
        elif kind == "ljspeech" and len(parts) in (2, 3):
            lines.append(_line(parts[0], parts[-1] or parts[1]))
        else:
            expected = "wav|speaker|language|text" if kind == "bert_vits2" else "id|text or id|text|normalised text"
            raise StageError(None, f"{path}:{number}", f"expected {expected}, found {len(parts)} fields: {line[:80]!r}")
    return lines
