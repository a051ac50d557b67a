"""Networks that hear a waveform and judge it alone: what was said, how natural it sounds, whose voice it is.

What they say depends on the waveform, the networks and their settings only, so that it is kept (see row_store) and
asked for
once: the recordings of a test set are heard in the first evaluation, not in every experiment's.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from model.checkpoints.checkpoint import file_sha256
from stages.common.code_graph import code_version
from stages.common.errors import PipelineError
from stages.metrics import dnsmos, mos, speaker_similarity
from stages.metrics.audible import Waveform
from stages.metrics.speaker_similarity import Embedding
from stages.metrics.speech_recognition import SpeechRecogniser
from stages.metrics.whisper_model import MODEL_SHA256, assemble_whisper
from stages.rows.store import RowStore, short_key, store_folder

logger = logging.getLogger(__name__)

# The networks that can be left out, by name: what loads one, what names the file of its weights, and the packages it is
# made of.
OPTIONAL: dict[str, tuple[Callable[[], Any], Callable[[], Path], tuple[str, ...]]] = {
    "mos": (mos.MosPredictor, mos.weights_file, ("distillmos", "xls-r-sqa", "torch")),
    "speaker_similarity": (
        speaker_similarity.SpeakerEncoder,
        speaker_similarity.weights_file,
        ("resemblyzer", "webrtcvad-wheels", "torch"),
    ),
    "dnsmos": (dnsmos.DnsMosPredictor, dnsmos.weights_file, ("speechmos", "onnxruntime")),
}
STORE = "evaluate"


@dataclass(frozen=True)
class Heard:
    """What is said of one waveform: NaN or None where a network is left out or has nothing to go by."""

    transcript: str
    mos: float = math.nan
    dnsmos: float = math.nan
    embedding: Embedding | None = None


@dataclass(frozen=True)
class Sound:
    """A waveform (S,) to be heard; `language` is for the recogniser, None where only the voice counts."""

    waveform: Waveform
    sample_rate_hz: int
    language: str | None


class Hearing:
    """The networks, loaded when the first sound needs them.

    `wanted` are some of OPTIONAL. One whose package is missing is left out with a warning; `lineage` has the reason.
    """

    def __init__(self, whisper_cache: Path, wanted: Iterable[str], *, beam_size: int = 5, threads: int = 1) -> None:
        self._whisper = assemble_whisper(whisper_cache)
        self._beam_size = beam_size
        self._threads = threads
        self._recogniser: SpeechRecogniser | None = None
        chosen = set(wanted)
        self.lineage: dict[str, dict[str, Any]] = {
            "recogniser": {
                "model": "Whisper base",
                "sha256": MODEL_SHA256,
                "beam_size": beam_size,
                "compute_type": "int8",
                "packages": package_versions("faster-whisper", "ctranslate2", "jiwer"),
            },
        }
        self._available: list[str] = []
        self._optional: dict[str, Any] = {}
        for name, (_, weights, packages) in OPTIONAL.items():
            if name not in chosen:
                self.lineage[name] = {"off": "not asked for (evaluate.hear)"}
                continue
            try:
                self.lineage[name] = {"sha256": file_sha256(weights()), "packages": package_versions(*packages)}
                self._available.append(name)
            except PipelineError as error:
                logger.warning("evaluate: %s is left out: %s", name, error)
                self.lineage[name] = {"off": str(error)}

    def hear(self, sounds: Iterable[Sound]) -> Iterator[Heard]:
        """Yield what is said of each, in order; only what was never heard before is computed, `threads` at once."""
        identity = json.dumps([code_version(__name__), self.lineage], sort_keys=True)
        with RowStore(store_folder(STORE)) as store, ThreadPoolExecutor(self._threads) as executor:
            keyed = [(_key(sound, identity), sound) for sound in sounds]
            kept = {key: _unpacked(found) for key, _ in keyed if (found := store.get(short_key(key)))}
            new = {key: sound for key, sound in keyed if key not in kept}
            logger.info(
                "evaluate: %d sounds in all, %d to hear, %d heard before", len(keyed), len(new), len(keyed) - len(new)
            )
            self._load(new.values())
            results = executor.map(self._hear, new.values())
            for key, _ in keyed:
                if key not in kept:
                    kept[key] = next(results)
                    store.put(key, *_packed(kept[key]))
                yield kept[key]

    def _load(self, new: Collection[Sound]) -> None:
        if new and not self._optional:
            self._optional = {name: OPTIONAL[name][0]() for name in self._available}
        if self._recogniser is None and any(sound.language for sound in new):
            self._recogniser = SpeechRecogniser(self._whisper, workers=self._threads, beam_size=self._beam_size)

    def _hear(self, sound: Sound) -> Heard:
        heard = {
            name: network(sound.waveform, sound.sample_rate_hz)
            for name, network in self._optional.items()
            if sound.language or name == "speaker_similarity"
        }
        embedding = heard.pop("speaker_similarity", None)
        transcript = (
            self._recogniser(sound.waveform, sound.sample_rate_hz, sound.language)
            if self._recogniser and sound.language
            else ""
        )
        return Heard(transcript, embedding=embedding, **heard)


def _key(sound: Sound, identity: str) -> str:
    digest = hashlib.sha256(f"{identity}|{sound.sample_rate_hz}|{sound.language}|".encode())
    digest.update(np.ascontiguousarray(sound.waveform, dtype="<f4").tobytes())
    return digest.hexdigest()


def _packed(heard: Heard) -> tuple[dict[str, Any], bytes]:
    meta = {"transcript": heard.transcript, "mos": heard.mos, "dnsmos": heard.dnsmos}
    return meta, b"" if heard.embedding is None else heard.embedding.astype("<f4").tobytes()


def _unpacked(row: tuple[Mapping[str, Any], bytes]) -> Heard:
    meta, blob = row
    return Heard(**meta, embedding=np.frombuffer(blob, dtype="<f4") if blob else None)


def package_versions(*packages: str) -> dict[str, str]:
    """Return the installed versions by package."""
    return {package: version(package) for package in packages}
