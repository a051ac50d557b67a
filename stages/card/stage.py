"""Card stage: what a voice is made of, how good it is, where it fails, and whose recordings it derives from, on one page."""

from __future__ import annotations

import json
import logging
import math
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
import pyarrow.parquet as pq
from markdown_it import MarkdownIt

from model.checkpoints.checkpoint import CheckpointError, checkpoint_sha256, read_listing
from stages.common import manifests
from stages.common.errors import PipelineError
from stages.common.files import content_key, output_folder, write_json
from stages.metrics.bootstrap import Interval, confidence_interval
from stages.metrics.catalogue import METRICS, NOT_KNOWN, Metric, format_figure
from stages.reporting.nested import flat

logger = logging.getLogger(__name__)

SUBSETS = ("train", "validation", "test")
LANGUAGE_NAMES = {"EN": "English", "ZH": "Mandarin", "JP": "Japanese"}
LICENCE_FILE = re.compile(r"(copyright|copying|licen[cs]e|attribution)\b", re.IGNORECASE)
ENOUGH_MINUTES, ENOUGH_UTTERANCES = 60, 100  # below: said among the limits


@dataclass(frozen=True)
class CardParams:
    """What no measurement tells: what the voice is meant for, and under which licence it is given away (null: it is not said)."""

    intended_use: str
    licence: str | None


@dataclass(frozen=True)
class Share:
    """Some of the recordings: utterances and minutes."""

    utterances: int
    minutes: float

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], rate_hz: int) -> Share:
        """Count rows of the split manifest."""
        return cls(len(rows), sum(row["n_samples"] for row in rows) / rate_hz / 60)


@dataclass(frozen=True)
class Measured:
    """A metric of the voice, and of the recordings themselves where they have it."""

    metric: Metric
    voice: Interval
    recordings: Interval | None

    def shown(self, interval: Interval | None) -> str:
        """Return a figure with its interval as people read it."""
        if interval is None or not math.isfinite(interval.value):
            return NOT_KNOWN
        low, high = (format_figure(each, self.metric.unit) for each in (interval.low, interval.high))
        return f"{format_figure(interval.value, self.metric.unit)} ({low} to {high})"


def measure(rows: Sequence[Mapping[str, Any]]) -> list[Measured]:
    """Return every metric of the catalogue that rows of utterances.parquet have a value of."""
    measured = []
    for metric in METRICS:
        if metric.is_known(rows):
            own = metric.of_recordings
            recordings = confidence_interval(rows, own) if own and own.key in rows[0] else None
            measured.append(Measured(metric, confidence_interval(rows, metric), recordings))
    return measured


def limits(train: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any], measured: Sequence[Measured], n_tested: int) -> Iterator[str]:
    """Yield what is known to be weak or unknown, one sentence each, from facts alone."""
    rate_hz = metadata["spectrogram"]["sample_rate_hz"]
    spoken = {row["language"] for row in train}
    foreign = [name_of(code) for code in metadata["symbols"]["languages"] if code not in spoken]
    yield f"It learnt {join(name_of(code) for code in sorted(spoken))}" + (f", and never heard {join(foreign, 'or')}." if foreign else ".")
    for speaker in metadata["speakers"]:
        minutes = Share.of([row for row in train if row["speaker"] == speaker], rate_hz).minutes
        if minutes < ENOUGH_MINUTES:
            yield f"{speaker} was learnt from {minutes:.1f} minutes of speech; an hour and more of one voice is usual."
    if synthetic := sum(row["n_samples"] for row in train if row["synthetic"]):
        share = synthetic / sum(row["n_samples"] for row in train)
        yield f"{share:.0%} of the speech that it learnt from was spoken by machines, whose habits it has taken over."
    for one in measured:
        if one.metric.key == "cer" and one.recordings is not None and one.voice.value > one.recordings.value:
            shown, own = (format_figure(interval.value, "percent") for interval in (one.voice, one.recordings))
            yield f"A speech recogniser misheard {shown} of its characters, and {own} of the recordings'."
    if n_tested < ENOUGH_UTTERANCES:
        yield f"It was measured on {n_tested} utterances: the intervals above are wide, and rare faults may not have shown."
    yield "The test utterances come from the same recordings as the training: other texts, styles and speakers were not measured."
    yield f"It holds no sound above {rate_hz / 2000:g} kHz."


def name_of(language: str) -> str:
    """Return a language's name, or its code where we have no name for it."""
    return LANGUAGE_NAMES.get(language, language)


def join(items: Iterable[str], word: str = "and") -> str:
    """Return a list in words; there is at least one item."""
    *first, last = items
    return f"{', '.join(first)} {word} {last}" if first else last


def licence_files(recordings: Path) -> list[Path]:
    """Return the files beside the recordings that say whose they are."""
    return sorted(path for path in recordings.glob("*") if path.is_file() and LICENCE_FILE.match(path.name))


def check_judged(voice: Path, evaluation: Path) -> str:
    """Return the hash of the voice; raises PipelineError when the evaluation is of another one."""
    try:
        own = checkpoint_sha256(voice)
    except CheckpointError as error:
        raise PipelineError(f"card: {error}") from None
    judged = manifests.read_metadata(evaluation / "utterances.parquet").get("voice_sha256")
    if judged != own:
        raise PipelineError(f"card: {evaluation} judges another voice ({judged}) than the one in {voice} ({own}); run `dvc repro evaluate`")
    return own


def made_of(rows: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the card says of the recordings: minutes by subset and by speaker, languages, the share of synthetic speech."""
    rate_hz = metadata["spectrogram"]["sample_rate_hz"]
    train = [row for row in rows if row["subset"] == "train"]
    speakers = []
    for speaker in metadata["speakers"]:
        own = [row for row in train if row["speaker"] == speaker]
        synthetic = sum(row["synthetic"] for row in own)
        languages = ", ".join(name_of(code) for code in sorted({row["language"] for row in own}))
        speakers.append({
            "name": speaker, "languages": languages, "share": Share.of(own, rate_hz),
            "kind": "a person" if not synthetic else "a machine" if synthetic == len(own) else "a person and a machine",
        })  # fmt: skip
    return {"subsets": {subset: Share.of([row for row in rows if row["subset"] == subset], rate_hz) for subset in SUBSETS}, "speakers": speakers,
            "languages": join([name_of(code) for code in sorted({row["language"] for row in train})]),
            "synthetic_share": Share.of([row for row in train if row["synthetic"]], rate_hz).minutes / Share.of(train, rate_hz).minutes}  # fmt: skip


def as_text(values: Mapping[str, Any]) -> dict[str, str]:
    """Return nested values as text under dotted names, in their order."""
    return {name: str(value) for name, value in sorted(flat(values).items())}


def lineage_of(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return where a voice comes from: hashes of data, code and parameters, and of the voice that training began with."""
    lineage = dict(metadata["lineage"])
    params = lineage.pop("params", {})
    parent = (params.get("base_voice") or {}).get("sha256")
    return as_text({**lineage, "params": content_key(params), "parent voice": parent or "none: trained from nothing"})


def main(split: Path, corpus: Path, voice: Path, evaluation: Path, card: Path, params: CardParams) -> None:
    """Write a voice's card.

    Reads the split manifest, where the recordings lie (corpus manifest), the voice and its evaluation; writes card.md, the same
    as card.html, the figures as card.json, and copies of the recordings' licences.
    """
    voice_sha256 = check_judged(voice, evaluation)
    checkpoint = read_listing(voice)
    metadata = checkpoint["metadata"]
    columns = ["utterance_id", "subset", "speaker", "language", "synthetic", "n_samples"]
    rows = manifests.read_manifest(split / "split.parquet", manifests.SPLIT, columns).to_pylist()
    tested = pq.read_table(evaluation / "utterances.parquet").to_pylist()
    measured = measure(tested)
    spoken = sorted({row["language"] for row in tested})
    licences = licence_files(Path(manifests.read_metadata(corpus / "corpus.parquet")["recordings"]))
    evaluators = evaluation / "evaluators.json"
    text = render("card.md.j2", {
        "title": join(metadata["speakers"]), "metadata": metadata, "params": params, "measured": measured, "name_of": name_of,
        "limits": list(limits([row for row in rows if row["subset"] == "train"], metadata, measured, len(tested))),
        "by_language": {language: measure([row for row in tested if row["language"] == language]) for language in spoken}, "n_tested": len(tested),
        "licences": [path.name for path in licences], "files": {"voice (metadata.json)": voice_sha256, **{
            f"{name} (weights)": entry["sha256"] for name, entry in sorted(checkpoint["files"].items())}}, "lineage": lineage_of(metadata),
        "evaluators": as_text(json.loads(evaluators.read_text(encoding="utf-8"))) if evaluators.is_file() else {}, **made_of(rows, metadata),
    })  # fmt: skip
    figures = {one.metric.key: {"voice": asdict(one.voice), "recordings": one.recordings and asdict(one.recordings)} for one in measured}
    with output_folder(card) as folder:
        (folder / "card.md").write_text(text, encoding="utf-8")
        body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
        (folder / "card.html").write_text(render("card.html.j2", {"title": join(metadata["speakers"]), "body": body}), encoding="utf-8")
        write_json(folder / "card.json", {"voice_sha256": voice_sha256, "step": metadata["step"], "n_tested": len(tested), "metrics": figures})
        for path in licences:
            shutil.copyfile(path, folder / path.name)
    logger.info("card: %s", card / "card.html")


def render(template: str, values: Mapping[str, Any]) -> str:
    """Fill a template that lies beside this module."""
    templates = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True,
                                   undefined=jinja2.StrictUndefined, keep_trailing_newline=True)  # fmt: skip
    return templates.get_template(template).render(values)
