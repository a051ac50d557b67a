"""Synthesis with a trained voice: text in, waveform out."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.audio.pitch import pitch_features
from model.audio.settings import SpectrogramSettings
from model.audio.spectrogram import linear_spectrogram, log_mel, mel_filterbank
from model.bert.encoder import BertEncoder, EncoderSource, load_tokenizer
from model.bert.phone_features import expand_to_phones, token_rows
from model.bert.spans import LanguageSpan, language_spans
from model.bert.tokenizers import Tokenizer
from model.checkpoints.checkpoint import CheckpointError, load_checkpoint
from model.config import ModelConfig
from model.networks.decoders.source_filter import posterior_frames
from model.networks.random_draws import isolated_random_state
from model.synthesizer import Synthesizer, SynthesizerInputs
from model.text.reading import Reading, read_with_lexicon
from model.text.symbols import PAD, SymbolTable, encode


@dataclass(frozen=True)
class SpeakingStyle:
    """Synthesis settings: scales of the prior noise and the duration noise, share of the stochastic duration predictor,
    and length (above 1 is slower). `seed` fixes the random draws.
    """

    noise_scale: float = 0.6
    duration_noise_scale: float = 0.8
    sdp_ratio: float = 0.2
    length_scale: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Speech:
    """Synthesised text: samples (S,) float32; phones with pads (and blanks); durations in frames per phone; costs."""

    samples: npt.NDArray[np.float32]
    sample_rate_hz: int
    normalised: str
    phones: tuple[str, ...]
    durations_frames: npt.NDArray[np.int64]
    cpu_seconds: float
    wall_seconds: float


class Synthesis(NamedTuple):
    """Output of the networks: samples (S,) and the frames of every phone (P,)."""

    samples: npt.NDArray[np.float32]
    durations_frames: npt.NDArray[np.int64]


class AbstractVoice(ABC):
    """Everything of a voice but its networks: symbols, speakers, languages, spectrogram settings, lexicon, text
    encoders.

    `style` holds the voice's default settings: those in its metadata, or the reference's.
    """

    def __init__(self, metadata: dict[str, Any], device: str = "cpu") -> None:
        self.device = torch.device(device)
        self.metadata = metadata
        self.config = ModelConfig.from_dict(metadata["model"])
        self.spectrogram = SpectrogramSettings(**metadata["spectrogram"])
        self.symbols = SymbolTable.from_dict(metadata["symbols"])
        self.add_blank: bool = metadata["add_blank"]
        self.speakers: tuple[str, ...] = tuple(metadata["speakers"])
        self.languages: tuple[str, ...] = tuple(metadata["encoders"])
        self.style = SpeakingStyle(**metadata.get("style", {}))
        self._encoders: dict[EncoderSource, tuple[Tokenizer, BertEncoder]] = {}

    @abstractmethod
    def _synthesise(
        self, ids: Sequence[Sequence[int]], bert: dict[str, Tensor], speaker_ids: Tensor | None, style: SpeakingStyle
    ) -> Synthesis:
        """Run the networks on ids of phones, tones and languages (P,) and text features."""

    def say(
        self, text: str, *, language: str, speaker: str | None = None, style: SpeakingStyle | None = None
    ) -> Speech:
        """Synthesise a text. Raises TextError for unreadable text, ValueError for an unknown speaker (listing the known
        ones).
        """
        style = style or self.style
        speaker_ids = self._speaker_ids(speaker)
        clock = _Clock()
        reading = self.read(text, language)
        with clock.stopped():
            for embedded in set(reading.sequence.languages):
                self._encoder(embedded)
        encoded = encode(reading.sequence, language, self.symbols, self.add_blank)
        spoken = self._synthesise(
            [encoded.phone_ids, encoded.tone_ids, encoded.language_ids], self.bert_features(reading), speaker_ids, style
        )
        return Speech(
            samples=spoken.samples,
            sample_rate_hz=self.spectrogram.sample_rate_hz,
            normalised=reading.normalised,
            phones=self._phones_with_pads(reading.sequence.phones),
            durations_frames=spoken.durations_frames,
            cpu_seconds=clock.cpu_seconds(),
            wall_seconds=clock.wall_seconds(),
        )

    def read(self, text: str, language: str) -> Reading:
        """Convert a text to phones with the lexicon of the voice's training. Raises TextError for unreadable text."""
        return read_with_lexicon(text, language, self.metadata.get("lexicon", {}))

    def bert_features(self, reading: Reading) -> dict[str, Tensor]:
        """Return language → features (1, C, P) per phone, as in training: zero on the phones of other languages."""
        spans = language_spans(
            reading.normalised, reading.sequence.word_spans, reading.sequence.word2ph, reading.sequence.languages
        )
        span_tokens, span_features = zip(*(self._span_features(span) for span in spans), strict=True)
        phone_tokens = np.concatenate(span_tokens)
        n_phones = np.array([span.n_phones for span in spans])
        planes = {}
        for language, size in self.config.bert_channels.items():
            features = [
                features if span.language == language else features[:0]
                for span, features in zip(spans, span_features, strict=True)
            ]
            rows = token_rows(phone_tokens, n_phones, np.array([len(part) for part in features]))
            if rows.any():
                tokens = np.concatenate([np.zeros((1, size), np.float16), *(part for part in features if len(part))])
                plane = expand_to_phones(tokens, rows[None], self.add_blank)
                planes[language] = torch.from_numpy(plane).float().transpose(1, 2).to(self.device)
        return planes

    def _span_features(self, span: LanguageSpan) -> tuple[list[int], npt.NDArray[np.float16]]:
        """Return the token of each of a span's phones, and the token features (tokens, C): none if its language has no
        encoder.
        """
        encoder = self._encoder(span.language)
        if encoder is None:
            return [0] * span.n_phones, np.empty((0, 0), dtype=np.float16)
        tokenizer, network = encoder
        tokens = tokenizer([span.text])[0]
        return span.phone_tokens(tokens.offsets), network.encode([tokens.ids])[0]

    def _speaker_ids(self, speaker: str | None) -> Tensor | None:
        name = self.speakers[0] if speaker is None else speaker
        if name not in self.speakers:
            raise ValueError(f"unknown speaker {name!r}; this voice has {', '.join(self.speakers)}")
        return torch.tensor([self.speakers.index(name)], device=self.device) if self.config.n_speakers else None

    def _phones_with_pads(self, phones: Sequence[str]) -> tuple[str, ...]:
        padded = (PAD, *phones, PAD)
        return (*tuple(item for phone in padded for item in (PAD, phone)), PAD) if self.add_blank else padded

    def _encoder(self, language: str) -> tuple[Tokenizer, BertEncoder] | None:
        """Return a language's encoder, loaded once for all languages that share it; None for a language without one."""
        facts = self.metadata["encoders"].get(language, {"kind": "none"})
        source = EncoderSource(facts["kind"], facts.get("name", ""), facts.get("revision"), facts.get("layer", -3))
        if source.kind == "none" or language not in self.config.bert_channels:
            return None
        if source not in self._encoders:
            self._encoders[source] = (load_tokenizer(source), BertEncoder(source, str(self.device)))
        return self._encoders[source]


class Voice(AbstractVoice):
    """Voice in a checkpoint folder, with the training metadata."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        checkpoint = load_checkpoint(folder, ["synthesizer"])
        super().__init__(checkpoint.metadata, device)
        self.network = Synthesizer(self.config)
        try:
            self.network.load_state_dict(checkpoint.tensors["synthesizer"])
        except RuntimeError as error:
            raise CheckpointError(
                f"{folder}: the weights do not fit the configuration saved beside them ({str(error).splitlines()[0]})"
            ) from None
        self.network.decoder.remove_weight_norm()
        self.network.eval().to(self.device)

    def resynthesise(self, pcm: npt.NDArray[np.int16], speaker: str | None = None) -> npt.NDArray[np.float32]:
        """Return a recording (S,) int16 at the voice's rate after the voice's posterior encoder and decoder;
        deterministic.
        """
        frames, lengths = self._posterior_input(pcm)
        with isolated_random_state(self.device):  # some decoders draw noise
            waveform = self.network.reconstruct(frames, lengths, self._speaker_ids(speaker))
        return waveform[0, 0].cpu().numpy()

    def align(
        self, pcm: npt.NDArray[np.int16], text: str, *, language: str, speaker: str | None = None
    ) -> npt.NDArray[np.int64]:
        """Return the duration in frames of each phone (P,) of a recording (S,) int16 and its text, pads and blanks
        included.

        Raises TextError for unreadable text, ValueError for an unknown speaker or for more phones than frames.
        """
        frames, lengths = self._posterior_input(pcm)
        reading = self.read(text, language)
        encoded = encode(reading.sequence, language, self.symbols, self.add_blank)
        if len(encoded.phone_ids) > frames.shape[2]:
            raise ValueError(f"{len(encoded.phone_ids)} phones do not fit into {frames.shape[2]} frames")
        phone_ids, tone_ids, language_ids = self._id_tensors(
            [encoded.phone_ids, encoded.tone_ids, encoded.language_ids]
        )
        inputs = SynthesizerInputs(
            phone_ids=phone_ids,
            phone_lengths=torch.tensor([phone_ids.shape[1]], device=self.device),
            tone_ids=tone_ids,
            language_ids=language_ids,
            bert=self.bert_features(reading),
            spectrogram=frames,
            spectrogram_lengths=lengths,
            speaker_ids=self._speaker_ids(speaker),
        )
        with torch.no_grad(), isolated_random_state(self.device):
            durations: Tensor = self.network(inputs, decode=False).durations[0]
        frame_counts: npt.NDArray[np.int64] = durations.round().long().cpu().numpy()
        return frame_counts

    def _id_tensors(self, ids: Sequence[Sequence[int]]) -> list[Tensor]:
        """Return ids of phones, tones and languages (P,) as tensors (1, P)."""
        return [torch.tensor([list(values)], device=self.device) for values in ids]

    def _posterior_input(self, pcm: npt.NDArray[np.int16]) -> tuple[Tensor, Tensor]:
        """Return the posterior encoder's input for a recording (S,): frames (1, C, T) and the length (1,)."""
        linear = linear_spectrogram(pcm, self.spectrogram)
        if self.metadata["posterior_input"] == "mel":
            linear = log_mel(linear, mel_filterbank(self.spectrogram))
        if self.config.latent_follows_mels:
            settings = self.spectrogram
            pitch = pitch_features(pcm, settings.sample_rate_hz, settings.hop_samples, len(linear))
            linear = posterior_frames(torch.from_numpy(linear.T)[None], torch.from_numpy(pitch)[None])[0].numpy().T
        frames = torch.from_numpy(np.ascontiguousarray(linear.T)).unsqueeze(0).to(self.device)  # (T, C) → (1, C, T)
        return frames, torch.tensor([frames.shape[2]], device=self.device)

    def _synthesise(
        self, ids: Sequence[Sequence[int]], bert: dict[str, Tensor], speaker_ids: Tensor | None, style: SpeakingStyle
    ) -> Synthesis:
        phone_ids, tone_ids, language_ids = self._id_tensors(ids)
        with isolated_random_state(self.device, style.seed):
            output = self.network.infer(
                phone_ids,
                torch.tensor([phone_ids.shape[1]], device=self.device),
                tone_ids,
                language_ids,
                bert,
                speaker_ids,
                noise_scale=style.noise_scale,
                duration_noise_scale=style.duration_noise_scale,
                sdp_ratio=style.sdp_ratio,
                length_scale=style.length_scale,
            )
        return Synthesis(output.waveform[0, 0].cpu().numpy(), output.durations[0].cpu().numpy())


class _Clock:
    """CPU and wall time since creation, minus the time while stopped."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self._wall += time.perf_counter() - wall
        self._cpu += time.process_time() - cpu

    def cpu_seconds(self) -> float:
        return time.process_time() - self._cpu

    def wall_seconds(self) -> float:
        return time.perf_counter() - self._wall
