"""BERT features from an encoder of the reference's size, 24 layers of 1,024: as the stage makes and stores them, and as the reference does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bench.bert_batches import SOURCE as ENGLISH
from bench.bert_batches import matrix_products, ours
from bench.harness.common import LIMIT, OURS, REFERENCE, Result, interleave, rate_result, use_one_thread
from bench.harness.mandarin_lines import LINES
from bench.harness.speech import Clip
from model.bert import EncoderSource, load_tokenizer, texts_per_batch, use_reproducible_kernels
from model.text.alignment import phones_to_tokens
from model.text.front_end import get_front_end

if TYPE_CHECKING:
    from transformers import PreTrainedModel

N_LAYERS, N_HIDDEN, N_INNER, N_HEADS, N_WORDS = 24, 1024, 4096, 16, 21128
LAYER = -3
OPENING, CLOSING, FIRST_CHARACTER = 101, 102, 670
N_REFERENCE_LINES = 6
SECONDS = 60.0
SPEED_TARGET, LIMIT_SHARE_TARGET, BYTES_TARGET = 4.0, 0.85, 7.5


@dataclass(frozen=True)
class Line:
    """A normalised line: one token a character with the special ones, and the token of every phone, pads and blanks included."""

    token_ids: tuple[int, ...]
    phone_tokens: tuple[int, ...]


def read_lines(lines: Sequence[str]) -> list[Line]:
    """Return lines as a BERT of single characters and the Mandarin front end see them."""
    front_end = get_front_end("ZH")
    found = []
    for line in lines:
        text = front_end.normalise(line)
        sequence = front_end.to_phones(text)
        offsets = [(0, 0), *((place, place + 1) for place in range(len(text))), (0, 0)]
        ids = [FIRST_CHARACTER + ord(character) % (N_WORDS - FIRST_CHARACTER) for character in text]
        tokens = with_blanks(phones_to_tokens(sequence.word_spans, sequence.word2ph, offsets))
        found.append(Line((OPENING, *ids, CLOSING), tuple(tokens)))
    return found


def full_batches(lines: Sequence[Line]) -> list[tuple[int, ...]]:
    """Return the texts of two batches, of a shorter and a longer length, as full as a large corpus fills them.

    The lines are too few for that: their characters are shifted to make more.
    """
    lengths = sorted(len(line.token_ids) for line in lines)
    texts = []
    for length in (lengths[len(lengths) // 3], lengths[2 * len(lengths) // 3]):
        enough = [line.token_ids[1:-1] for line in lines if len(line.token_ids) >= length]
        for index in range(texts_per_batch(length)):
            characters = enough[index % len(enough)]
            shift = index // len(enough)
            texts.append((OPENING, *(characters[shift:] + characters[:shift])[: length - 2], CLOSING))
    return texts


def write_encoder(folder: Path) -> EncoderSource:
    """Write an encoder of the reference's size at random weights, which are as fast as any."""
    import torch
    from transformers import BertConfig, BertModel
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    torch.manual_seed(0)
    config = BertConfig(vocab_size=N_WORDS, hidden_size=N_HIDDEN, num_hidden_layers=N_LAYERS, num_attention_heads=N_HEADS, intermediate_size=N_INNER)
    BertModel(config).save_pretrained(folder)
    return EncoderSource("folder", str(folder), None, LAYER)


def reference(model: PreTrainedModel, lines: Sequence[Line]) -> list[npt.NDArray[np.float32]]:
    """Features (C, P) in fp32 of one line at a time, through all layers, repeated for every phone; the model stays loaded."""
    import torch

    features = []
    for line in lines:
        with torch.no_grad():
            batch = torch.tensor([line.token_ids])
            states = model(input_ids=batch, attention_mask=torch.ones_like(batch), output_hidden_states=True).hidden_states
            features.append(states[LAYER][0][list(line.phone_tokens)].T.contiguous().numpy())
    return features


def bert_large(clips: Sequence[Clip], folder: Path) -> Result:
    """Compare tokens per CPU-second; the limit is the matrix products of the same batches alone."""
    kernels = use_reproducible_kernels()
    use_one_thread()
    from transformers import AutoModel

    source = write_encoder(folder)
    lines = read_lines(LINES)
    texts, some = full_batches(lines), lines[:N_REFERENCE_LINES]
    n_tokens, n_some_tokens = sum(map(len, texts)), sum(len(line.token_ids) for line in some)
    model = AutoModel.from_pretrained(folder, local_files_only=True).float().eval()
    timings = interleave({
        OURS: partial(ours, texts, source),
        REFERENCE: partial(reference, model, some),
        LIMIT: partial(matrix_products, n_tokens, N_LAYERS + 1 + LAYER, N_HIDDEN, N_INNER),
    }, SECONDS, {OURS: n_tokens, REFERENCE: n_some_tokens, LIMIT: n_tokens})  # fmt: skip
    found = ours([line.token_ids for line in some], source)
    expected = reference(model, some)
    equal = all(np.array_equal(ours_[list(line.phone_tokens)].T, theirs.astype(np.float16))
                for line, ours_, theirs in zip(some, found, expected, strict=True))  # fmt: skip
    note = (
        f"{N_LAYERS} layers of {N_HIDDEN} at random weights; {len(texts)} texts in two full batches, {n_tokens} tokens (reference: {len(some)} "
        f"lines, one at a time, all layers, phone-level fp32, its model kept loaded), both with MKL_CBWR={kernels or 'unset'}; "
        f"{'bitwise equal' if equal else 'NOT EQUAL'} in fp16; limit: the matrix products alone"
    )
    return rate_result("bert_large", timings, unit="tokens per CPU-second", target=SPEED_TARGET, limit_share_target=LIMIT_SHARE_TARGET, note=note)


def bert_bytes(clips: Sequence[Clip], folder: Path) -> Result:
    """Compare what is stored of the corpus's texts: fp16 per token against fp32 per phone with blanks.

    The number of channels is the same on both sides. English words have more phones to a token than Mandarin characters.
    """
    front_end = get_front_end("EN")
    texts = [front_end.normalise(clip.text) for clip in clips]
    n_tokens = n_slots = 0
    for text, tokens in zip(texts, load_tokenizer(ENGLISH)(texts), strict=True):
        n_tokens += len(tokens.ids)
        n_slots += _slots(len(front_end.to_phones(text).phones))
    mandarin = read_lines(LINES)
    worst = sum(len(line.phone_tokens) for line in mandarin) * 4 / (sum(len(line.token_ids) for line in mandarin) * 2)
    per_text = len(texts) * 1024
    return Result(
        name="bert_bytes", ours=n_tokens * N_HIDDEN * 2 / per_text, reference=n_slots * N_HIDDEN * 4 / per_text, ratio=n_slots * 4 / (n_tokens * 2),
        limit_share=None, target=BYTES_TARGET, unit="KiB a text",
        note=f"{len(texts)} texts of the corpus at {N_HIDDEN} channels; {worst:.2f} × for {len(LINES)} Mandarin lines, a token a character",
    )  # fmt: skip


def _slots(n_phones: int) -> int:
    """Return the places for features of a text with two pads, and blanks around every phone."""
    return 2 * (n_phones + 2) + 1
