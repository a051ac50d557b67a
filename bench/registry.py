"""The benchmarks by name, and how one is run: in a process of its own, on one thread."""

from __future__ import annotations

import importlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.common import Result
from bench.speech import read_clips

THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Benchmark:
    """Where a benchmark's function is and what it compares."""

    module: str
    function: str
    summary: str


BENCHMARKS = {
    "resample": Benchmark("resampling", "resample", "a recording to 44.1 kHz PCM: our row of work / librosa per file"),
    "resample_stage": Benchmark("resampling", "resample_stage", "the same with row store and shards, as the stage runs / librosa per file"),
    "resample_wall": Benchmark("resampling", "resample_wall", "the stage's command with two workers, on the clock / librosa as the original pins it"),
    "resample_wall_soxr": Benchmark("resampling", "resample_wall_soxr", "the same / librosa with the same soxr filter, in one process"),
    "stft": Benchmark("stft", "stft", "2048/512 magnitudes of a clip: frames as rows, in blocks / torch.stft and pow(2).sum(-1)"),
    "stft_torch": Benchmark("stft", "stft_torch", "2048/512 magnitudes with gradients: frames as rows / torch.stft and pow(2).sum(-1)"),
    "read_clip": Benchmark("loading", "read_clip", "one cached spectrogram, warm: pread from an fp16 shard / torch.load of a file"),
    "read_clip_cold": Benchmark("loading", "read_clip_cold", "the same from the disk, in wall time"),
    "spectrogram_bytes": Benchmark("loading", "spectrogram_bytes", "cached spectrograms: fp16 in shards / float32 in files"),
    "load_batch": Benchmark("loading", "load_batch", "24 utterances from shards with cached spectrograms / per-file caches"),
    "load_batch_on_the_fly": Benchmark("loading", "load_batch_on_the_fly", "24 utterances, spectrograms computed / per-file caches"),
    "alignment_search": Benchmark("alignment_search", "alignment_search", "24 × 990 × 206: two rolling rows / a full table of values"),
    "train_step": Benchmark("train_step", "train_step", "one step of the full-size networks: the trainer's / the reference's order of work"),
    "padding": Benchmark("padding", "padding", "padded share of frames: sorted pools / length buckets with repeats"),
    "padding_large": Benchmark("padding", "padding_large", "the same for 12,000 lengths drawn from the corpus's distribution"),
    "manifest_million": Benchmark("manifest_million", "manifest_million", "a million rows opened and an epoch planned / lines parsed"),
    "nothing_to_do": Benchmark("nothing_to_do", "nothing_to_do", "dvc repro with nothing changed / the data stages again on stored rows"),
    "flow_overhead": Benchmark("flow_overhead", "flow_overhead", "the smoke preset from nothing: as a Prefect flow / dvc repro"),
    "incremental": Benchmark("incremental", "incremental", "a small change's dvc repro beyond start-up, as a share of a full run on 3,300 clips"),
    "dvc_files": Benchmark("dvc_files", "dvc_files", "dvc add, checkout and status: our shards / a WAV and two float32 files a clip"),
    "row_memory": Benchmark("row_memory", "row_memory", "driver's resident memory: 100,000 rows of a data stage / 1,000 rows"),
    "bert_batches": Benchmark("bert_batches", "bert_batches", "MiniLM: equal lengths together, unused layers dropped / one text at a time"),
    "bert_large": Benchmark("bert_large", "bert_large", "24 layers of 1,024: equal lengths together, 22 layers / one text at a time, all layers"),
    "bert_bytes": Benchmark("bert_large", "bert_bytes", "stored features: fp16 per token / fp32 per phone with blanks"),
    "onnx": Benchmark("onnx_graphs", "onnx", "the laptop preset's voice: through its ONNX graphs in onnxruntime / in torch"),
    "mandarin_text": Benchmark("mandarin_text", "mandarin_text", "Mandarin lines to phones: words remembered / libraries asked word by word"),
    "evaluate": Benchmark("evaluating", "evaluate", "100 utterances evaluated, on the clock: nothing heard before / the recordings heard before"),
    "serve": Benchmark("serving", "serve", "the first sound of a long text: sentences sent as they are spoken / all in one file"),
}


def limit_threads() -> None:
    """Hold every numeric library of this process and its children to one thread; call before they are imported."""
    os.environ.update(dict.fromkeys(THREAD_SETTINGS, "1"))


def run_benchmark(name: str, speech: Path) -> Result:
    """Run one benchmark on the decoded corpus in `speech`, in a temporary folder of its own."""
    limit_threads()
    benchmark = BENCHMARKS[name]
    run = getattr(importlib.import_module(f"bench.{benchmark.module}"), benchmark.function)
    with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as scratch:
        result: Result = run(read_clips(speech), Path(scratch))
    return result
