"""Speech recognition, predicted naturalness, signal quality and speaker embeddings of single waveforms.

The results depend only on the waveform, the networks and their settings, so they are cached in the row store: the
recordings of a test set are processed once, not in every experiment's evaluation.
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
from stages.metrics.perceptual_input import Waveform
from stages.metrics.speaker_similarity import Embedding
from stages.metrics.speech_recognition import BEAM_SIZE, SpeechRecogniser
from stages.metrics.whisper_model import MODEL_SHA256, assemble_whisper
from stages.rows.store import RowStore, short_key, store_folder

logger = logging.getLogger(__name__)

# Optional networks by name: constructor, function that returns the weights file, and packages.
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
class PerceptualResult:
    """Results for one waveform: NaN or None where a network is disabled or has too little input."""

    transcript: str
    mos: float = math.nan
    dnsmos: float = math.nan
    embedding: Embedding | None = None


@dataclass(frozen=True)
class Sound:
    """A waveform (S,) to evaluate; `language` is for the recogniser, None if only the speaker embedding is needed."""

    waveform: Waveform
    sample_rate_hz: int
    language: str | None


class PerceptualEvaluator:
    """The networks, loaded for the first sound that is not cached.

    `networks` are names from OPTIONAL. A network whose package is missing is skipped with a warning; `lineage` holds
    the reason.
    """

    def __init__(self, whisper_cache: Path, networks: Iterable[str], *, threads: int = 1) -> None:
        self._whisper = assemble_whisper(whisper_cache)
        self._threads = threads
        self._recogniser: SpeechRecogniser | None = None
        enabled = set(networks)
        self.lineage: dict[str, dict[str, Any]] = {
            "recogniser": {
                "model": "Whisper base",
                "sha256": MODEL_SHA256,
                "beam_size": BEAM_SIZE,
                "compute_type": "int8",
                "packages": package_versions("faster-whisper", "ctranslate2", "jiwer"),
            },
        }
        self._available: list[str] = []
        self._optional: dict[str, Any] = {}
        for name, (_, weights, packages) in OPTIONAL.items():
            if name not in enabled:
                self.lineage[name] = {"off": "not in evaluate.hear"}
                continue
            try:
                self.lineage[name] = {"sha256": file_sha256(weights()), "packages": package_versions(*packages)}
                self._available.append(name)
            except PipelineError as error:
                logger.warning("evaluate: skipping %s: %s", name, error)
                self.lineage[name] = {"off": str(error)}

    def evaluate(self, sounds: Iterable[Sound]) -> Iterator[PerceptualResult]:
        """Yield each sound's result in order; only uncached sounds are computed, `threads` at once."""
        identity = json.dumps([code_version(__name__), self.lineage], sort_keys=True)
        with RowStore(store_folder(STORE)) as store, ThreadPoolExecutor(self._threads) as executor:
            keyed = [(_key(sound, identity), sound) for sound in sounds]
            results = {key: _unpack(cached) for key, _ in keyed if (cached := store.get(short_key(key)))}
            new = {key: sound for key, sound in keyed if key not in results}
            logger.info("evaluate: %d sounds, %d to compute, %d cached", len(keyed), len(new), len(keyed) - len(new))
            self._load(new.values())
            computed = executor.map(self._compute, new.values())
            for key, _ in keyed:
                if key not in results:
                    results[key] = next(computed)
                    store.put(key, *_pack(results[key]))
                yield results[key]

    def _load(self, new: Collection[Sound]) -> None:
        if new and not self._optional:
            self._optional = {name: OPTIONAL[name][0]() for name in self._available}
        if self._recogniser is None and any(sound.language for sound in new):
            self._recogniser = SpeechRecogniser(self._whisper, workers=self._threads)

    def _compute(self, sound: Sound) -> PerceptualResult:
        outputs = {
            name: network(sound.waveform, sound.sample_rate_hz)
            for name, network in self._optional.items()
            if sound.language or name == "speaker_similarity"
        }
        embedding = outputs.pop("speaker_similarity", None)
        transcript = (
            self._recogniser(sound.waveform, sound.sample_rate_hz, sound.language)
            if self._recogniser and sound.language
            else ""
        )
        return PerceptualResult(transcript, embedding=embedding, **outputs)


def _key(sound: Sound, identity: str) -> str:
    digest = hashlib.sha256(f"{identity}|{sound.sample_rate_hz}|{sound.language}|".encode())
    digest.update(np.ascontiguousarray(sound.waveform, dtype="<f4").tobytes())
    return digest.hexdigest()


def _pack(result: PerceptualResult) -> tuple[dict[str, Any], bytes]:
    meta = {"transcript": result.transcript, "mos": result.mos, "dnsmos": result.dnsmos}
    return meta, b"" if result.embedding is None else result.embedding.astype("<f4").tobytes()


def _unpack(row: tuple[Mapping[str, Any], bytes]) -> PerceptualResult:
    meta, blob = row
    return PerceptualResult(**meta, embedding=np.frombuffer(blob, dtype="<f4") if blob else None)


def package_versions(*packages: str) -> dict[str, str]:
    """Return the installed versions by package."""
    return {package: version(package) for package in packages}
