"""One optimiser with what surrounds its step: sums over batches and ranks, fp16 scaling and clipping."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from model.networks.masks import clip_gradients_by_value
from model.training.config import TrainingConfig
from model.training.distributed import sum_gradients


class Updater:
    """AdamW over `parameters`: any number of `backward` calls, then one `update`."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], learning_rate: float, config: TrainingConfig, device: torch.device
    ) -> None:
        self.config = config
        self.learning_rate = learning_rate
        self.parameters = list(parameters)
        first, second = config.betas
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=learning_rate,
            betas=(first, second),
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")

    def set_factor(self, factor: float) -> None:
        """Set the learning rate to `factor` times its base."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * factor

    def clear(self) -> None:
        """Forget gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss."""
        self.scaler.scale(loss).backward()

    def update(self) -> Tensor:
        """Step down the gradients' sum over ranks and return its norm, from before clipping.

        An fp16 update whose gradients overflow is skipped on every rank; the scale falls for the next.
        """
        # Scaled sums overflow on all ranks or on none, so that every scaler takes the same decision.
        sum_gradients(self.parameters)
        self.scaler.unscale_(self.optimizer)
        used = [parameter for parameter in self.parameters if parameter.grad is not None]
        if self.config.gradient_clip:
            norm = nn.utils.clip_grad_norm_(used, self.config.gradient_clip)
        else:
            norm = nn.utils.get_total_norm([parameter.grad for parameter in used if parameter.grad is not None])
        if self.config.gradient_clip_value:
            clip_gradients_by_value(used, self.config.gradient_clip_value)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Return what the next update depends on."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, without gradients."""
        self.clear()
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
