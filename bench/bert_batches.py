"""How many tokens a second does the bert stage encode, and how near is that to the matrix products alone?

Tokens per CPU-second of batches of equal length with the layers above the used one dropped, against one text at a time
through all layers, its model kept loaded. `bert_batches` is the default encoder on real texts; `bert_large` has the
size of the reference's encoders, 24 layers of 1,024, at random weights, on two full batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bench.harness.common import LIMIT, OURS, REFERENCE, Result, interleave, rate_result, use_one_thread
from bench.harness.encoder import ENCODER
from bench.harness.speech import Clip, sample
from model.bert.encoder import (
    MAX_BATCH_TOKENS,
    EncoderSource,
    load_tokenizer,
    texts_per_batch,
    use_reproducible_kernels,
)
from stages.bert.encode import batches, compute
from stages.bert.plan import TokenisedRow
from stages.rows.engine import Row

if TYPE_CHECKING:
    from transformers import PreTrainedModel

N_TEXTS = 1000  # enough to fill batches of one length
N_REFERENCE_TEXTS = 60  # one text at a time costs the same per token however many there are
N_LAYERS, N_HIDDEN, N_INNER, N_HEADS, N_WORDS = 24, 1024, 4096, 16, 21128
LARGE_LENGTHS = (20, 22)  # tokens of short sentences in Mandarin
N_LARGE_REFERENCE_TEXTS = 6
LARGE_LAYER = -3
SECONDS, LARGE_SECONDS = 6.0, 60.0
LARGE_TARGET, LARGE_LIMIT_SHARE_TARGET = 4.0, 0.85

TokenIds = Sequence[tuple[int, ...]]
Features = list[npt.NDArray[np.float16]]


def ours(source: EncoderSource, token_ids: TokenIds) -> Features:
    """Return features (tokens, C) of each text as the stage computes them, in batches of one length."""
    rows = [Row(str(index), str(index), TokenisedRow(source, ids)) for index, ids in enumerate(token_ids)]
    blobs = {}
    for chunk in batches(rows):
        for row, (facts, blob) in zip(chunk, compute(["cpu"], chunk), strict=True):
            blobs[row.key] = np.frombuffer(blob, dtype=np.float16).reshape(facts["n_tokens"], facts["n_channels"])
    return [blobs[row.key] for row in rows]


def reference(model: PreTrainedModel, layer: int, token_ids: TokenIds) -> Features:
    """Return features (tokens, C) of one text at a time, through all layers of a loaded model."""
    import torch

    features = []
    for ids in token_ids:
        with torch.no_grad():
            batch = torch.tensor([ids])
            output = model(input_ids=batch, attention_mask=torch.ones_like(batch), output_hidden_states=True)
        features.append(output.hidden_states[layer][0].numpy().astype(np.float16))
    return features


def load_reference(source: EncoderSource) -> PreTrainedModel:
    """Return the whole encoder."""
    from transformers import AutoModel
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    model: PreTrainedModel = AutoModel.from_pretrained(source.locate(), local_files_only=True).float().eval()
    return model


def write_large_encoder(folder: Path) -> EncoderSource:
    """Write an encoder of the reference's size at random weights, on which speed does not depend."""
    import torch
    from transformers import BertConfig, BertModel
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=N_WORDS,
        hidden_size=N_HIDDEN,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=N_HEADS,
        intermediate_size=N_INNER,
    )
    BertModel(config).save_pretrained(folder)
    return EncoderSource("folder", str(folder), None, LARGE_LAYER)


def full_batches() -> list[tuple[int, ...]]:
    """Return random token ids that fill one batch of each large length."""
    rng = np.random.default_rng(0)
    return [
        tuple(rng.integers(0, N_WORDS, length).tolist())
        for length in LARGE_LENGTHS
        for _ in range(texts_per_batch(length))
    ]


def matrix_products(n_tokens: int, n_layers: int, n_hidden: int, n_inner: int) -> None:
    """Compute only the weight products of `n_tokens` tokens, in batches as large as the stage's."""
    import torch

    for start in range(0, n_tokens, MAX_BATCH_TOKENS):
        tokens = torch.ones(min(MAX_BATCH_TOKENS, n_tokens - start), n_hidden)
        inner = torch.ones(len(tokens), n_inner)
        square, up, down = (
            torch.ones(shape) for shape in ((n_hidden, n_hidden), (n_hidden, n_inner), (n_inner, n_hidden))
        )
        for _ in range(n_layers):
            for _ in range(4):
                tokens @ square
            tokens @ up
            inner @ down


def _compare(
    name: str,
    kernels: str,
    source: EncoderSource,
    token_ids: TokenIds,
    reference_ids: TokenIds,
    seconds: float,
    target: float | None = None,
    limit_share_target: float | None = None,
) -> Result:
    n_tokens, n_reference_tokens = (sum(map(len, ids)) for ids in (token_ids, reference_ids))
    model = load_reference(source)
    config = model.config
    n_used_layers = config.num_hidden_layers + 1 + source.layer
    sides: dict[str, Callable[[], object]] = {
        OURS: partial(ours, source, token_ids),
        REFERENCE: partial(reference, model, source.layer, reference_ids),
        LIMIT: partial(matrix_products, n_tokens, n_used_layers, config.hidden_size, config.intermediate_size),
    }
    timings = interleave(sides, seconds, {OURS: n_tokens, REFERENCE: n_reference_tokens, LIMIT: n_tokens})
    pairs = zip(ours(source, reference_ids), reference(model, source.layer, reference_ids), strict=True)
    difference = max(float(np.abs(a.astype(np.float32) - b.astype(np.float32)).max()) for a, b in pairs)
    note = (
        f"{len(token_ids)} texts, {n_tokens} tokens (reference: {len(reference_ids)} texts); "
        f"largest difference {difference:.1e} in fp16; MKL_CBWR={kernels or 'unset'}; limit: the matrix products alone"
    )
    return rate_result(
        name,
        timings,
        unit="tokens per CPU-second",
        target=target,
        limit_share_target=limit_share_target,
        note=note,
    )


def run(clips: Sequence[Clip], scratch: Path) -> list[Result]:
    """Compare tokens per CPU-second of the default and of a large encoder."""
    kernels = use_reproducible_kernels()
    use_one_thread()
    token_ids = [tokens.ids for tokens in load_tokenizer(ENCODER)([clip.text for clip in sample(clips, N_TEXTS)])]
    large, large_ids = write_large_encoder(scratch), full_batches()
    some_large_ids = large_ids[:: len(large_ids) // N_LARGE_REFERENCE_TEXTS + 1]
    return [
        _compare("bert_batches", kernels, ENCODER, token_ids, token_ids[:N_REFERENCE_TEXTS], SECONDS),
        _compare(
            "bert_large",
            kernels,
            large,
            large_ids,
            some_large_ids,
            LARGE_SECONDS,
            LARGE_TARGET,
            LARGE_LIMIT_SHARE_TARGET,
        ),
    ]
