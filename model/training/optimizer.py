"""AdamW with gradient accumulation, sums over ranks, fp16 loss scaling and clipping."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from model.networks.masks import clip_gradients_by_value
from model.training.config import TrainingConfig
from model.training.distributed import sum_gradients


class Updater:
    """Optimiser of `parameters`: any number of `backward` calls, then one `update`."""

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
        """Set the learning rate to `factor` times the initial one."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * factor

    def zero_grad(self) -> None:
        """Reset the gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradients of a loss."""
        torch.autograd.backward(self.scaler.scale(loss))

    def update(self) -> Tensor:
        """Step along the sum of gradients over ranks and return its norm before clipping.

        An fp16 update with overflowing gradients is skipped on every rank, and the loss scale lowered.
        """
        # The scaled sum overflows on all ranks or on none, so that all scalers take the same decision.
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
        """Return the state of optimiser and scaler."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a `state_dict` and reset the gradients."""
        self.zero_grad()
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
