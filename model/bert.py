"""Pretrained text encoders: features per word piece from one hidden layer of a BERT.

Row by row exactness: a batch holds texts of equal length only, at most `MAX_BATCH_TOKENS` tokens, and
`use_reproducible_kernels` pins the matrix kernels, so that a text's features do not depend on its neighbours.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

MAX_BATCH_TOKENS = 1024
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
KINDS = ("package", "folder", "hub", "none")


class EncoderError(ValueError):
    """An encoder that cannot be had or used; the message says what to do."""


@dataclass(frozen=True)
class EncoderSource:
    """Where an encoder's files are and which layer's output is used.

    kind: `package` (name "python_package/folder"), `folder` (a path), `hub` (a model id with a pinned revision) or
    `none` (no features). layer counts as in `hidden_states`: -3 is the third from last.
    """

    kind: str
    name: str = ""
    revision: str | None = None
    layer: int = -3

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"encoder kind {self.kind!r} is not one of {', '.join(KINDS)}")
        if self.kind != "none" and not self.name:
            raise ValueError(f"an encoder of kind {self.kind!r} needs a name")
        if self.kind == "hub" and not self.revision:
            raise ValueError(f"hub model {self.name!r} needs a pinned revision (a commit hash), or it may change unseen")

    def locate(self) -> Path:
        """Return the local folder of the encoder's files; raises EncoderError with the remedy when there is none."""
        if self.kind == "package":
            package, _, inner = self.name.partition("/")
            spec = importlib.util.find_spec(package)
            if spec is None or not spec.submodule_search_locations:
                raise EncoderError(f"package {package!r} is not installed; run `make setup`, or `pip install {package}`")
            folder = Path(next(iter(spec.submodule_search_locations))) / inner
        elif self.kind == "folder":
            folder = Path(self.name)
        else:
            folder = self._locate_on_hub()
        if not (folder / "config.json").is_file():
            raise EncoderError(f"{folder}: no config.json there; expected a transformers model folder")
        return folder

    def _locate_on_hub(self) -> Path:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        wanted = ["config.json", "tokenizer*", "vocab*", "special_tokens_map.json", *WEIGHT_FILES]
        try:
            return Path(snapshot_download(self.name, revision=self.revision, allow_patterns=wanted))
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
            raise EncoderError(
                f"encoder {self.name} at {self.revision} cannot be fetched ({type(error).__name__}); on a machine with "
                f"network run `hf download {self.name} --revision {self.revision} --local-dir FOLDER`, then set "
                f"kind: folder, name: FOLDER"
            ) from None


@dataclass(frozen=True)
class Tokens:
    """A text's word pieces: ids with the opening and closing special tokens, and their character spans in the text."""

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]


def use_reproducible_kernels() -> str:
    """Pin MKL's instruction set and summation order; call before torch is imported. Returns the setting in force."""
    if "torch" not in sys.modules:
        wide = Path("/proc/cpuinfo").is_file() and "avx512f" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore")
        os.environ.setdefault("MKL_CBWR", "AVX512,STRICT" if wide else "AVX2,STRICT")
    return os.environ.get("MKL_CBWR", "")


def load_tokenizer(source: EncoderSource) -> TokenizerWithOffsets:
    """Return the encoder's fast tokenizer."""
    return TokenizerWithOffsets(source.locate())


class TokenizerWithOffsets:
    """A fast tokenizer that gives ids and character spans."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, local_files_only=True)
        except (OSError, ValueError) as error:
            raise EncoderError(f"{folder}: no usable tokenizer there ({str(error).splitlines()[0]})") from None
        if not self._tokenizer.is_fast:
            raise EncoderError(f"{folder}: the tokenizer has no fast version, and only those know character offsets")

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenise texts, untruncated."""
        encoded = self._tokenizer(list(texts), return_offsets_mapping=True, verbose=False)
        return [Tokens(tuple(ids), tuple((start, end) for start, end in offsets))
                for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)]  # fmt: skip


class BertEncoder:
    """Word-piece features of one hidden layer; the layers above it are dropped, not computed."""

    def __init__(self, source: EncoderSource, device: str = "cpu") -> None:
        from transformers import AutoModel
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        self.source = source
        self.device = device
        folder = source.locate()
        try:
            self._model = AutoModel.from_pretrained(folder, local_files_only=True).float().eval().to(device)
        except (OSError, ValueError) as error:
            raise EncoderError(f"{folder}: not a usable model folder ({str(error).splitlines()[0]})") from None
        layers = self._model.encoder.layer
        n_kept = len(layers) + 1 + source.layer if source.layer < 0 else source.layer
        if not 0 < n_kept <= len(layers):
            raise EncoderError(f"{source.name}: layer {source.layer} of an encoder with {len(layers)} layers")
        self._model.encoder.layer = layers[:n_kept]
        self.n_channels = int(self._model.config.hidden_size)
        self.max_tokens = int(self._model.config.max_position_embeddings)

    def encode(self, token_ids: Sequence[Sequence[int]]) -> list[npt.NDArray[np.float16]]:
        """Return the features (tokens, channels) in fp16 of texts that all have the same number of tokens.

        Raises ValueError for texts of different lengths, EncoderError for more tokens than the encoder has positions.
        """
        import torch

        if len({len(ids) for ids in token_ids}) != 1:
            raise ValueError("a batch must hold texts of equal length: padding would change their features")
        if len(token_ids[0]) > self.max_tokens:
            raise EncoderError(f"{len(token_ids[0])} tokens, more than the {self.max_tokens} positions of {self.source.name}")
        with torch.inference_mode():
            batch = torch.tensor([list(ids) for ids in token_ids], device=self.device)
            hidden: torch.Tensor = self._model(input_ids=batch, attention_mask=torch.ones_like(batch)).last_hidden_state
            return list(hidden.to(torch.float16).cpu().numpy())


def fingerprint(source: EncoderSource) -> str:
    """Return a hash (hex) of the encoder's weights, configuration, vocabulary and layer."""
    digest = hashlib.sha256(f"layer {source.layer}".encode())
    folder = source.locate()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in (".safetensors", ".bin", ".json", ".txt", ".model"):
            digest.update(path.name.encode() + b"\0")
            with path.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
