"""Warm start: verification of a base voice and transfer of its weights into the trainer."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from model.checkpoints.checkpoint import CheckpointError, checkpoint_sha256
from model.checkpoints.transfer import Vocabulary, transfer
from model.settings import Settings
from model.text.symbols import SymbolTable
from model.training.trainer import Trainer
from stages.common.errors import PipelineError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BaseVoiceParams(Settings):
    """The voice that training starts from: its folder and the hash of its content; both null to start from nothing.

    The hash makes the base a parameter: another base in the same folder is another run.
    """

    folder: str | None = None
    sha256: str | None = None

    def _conflicts(self) -> Iterator[str]:
        if self.folder is None and self.sha256 is not None:
            yield "sha256 is given without folder; name the base voice's folder, or set both to null"
        if self.folder is not None and not self.folder.strip():
            yield "folder is empty; name the base voice's folder, or null for none"
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            yield (f"sha256 {self.sha256!r} is not 64 hexadecimal digits; leave it null to be told the right one")


def warm_start(
    params: BaseVoiceParams, trainer: Trainer, symbols: SymbolTable, speakers: Sequence[str]
) -> dict[str, Any] | None:
    """Transfer a base voice into a new trainer and return the report; None without a base voice.

    The base's folder is only read. Raises PipelineError if it is missing, damaged or not the one in the parameters.
    """
    if params.folder is None:
        return None
    folder = Path(params.folder)
    if not folder.is_dir():
        raise PipelineError(
            f"{folder}: no such folder; train.base_voice.folder must name a voice folder outside the outputs of the "
            "train stage, which are deleted before it runs"
        )
    try:
        sha256 = checkpoint_sha256(folder)
        if sha256 != params.sha256:
            raise PipelineError(
                f"{folder}: the base voice has sha256 {sha256}, train.base_voice.sha256 is {params.sha256 or 'null'}; "
                f"set train.base_voice.sha256 to {sha256} if this is the voice to start from"
            )
        report = transfer(
            folder,
            trainer.synthesizer,
            Vocabulary(symbols, tuple(speakers)),
            discriminator=trainer.discriminator,
            duration_discriminator=trainer.duration_discriminator,
        )
    except CheckpointError as error:
        raise PipelineError(f"train.base_voice: {error}") from None
    with torch.no_grad():
        for name, value in trainer.synthesizer.named_parameters():
            if name in trainer.ema_weights:
                trainer.ema_weights[name].copy_(value)
    if not dist.is_initialized() or dist.get_rank() == 0:
        logger.info("train: starting from %s", report)
    return {"sha256": sha256, **report.to_dict()}
