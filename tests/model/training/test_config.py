"""Training settings: every problem is reported at once, with its value."""

from typing import Any

import pytest

from model.settings import ConfigError
from model.training.config import TrainingConfig
from tests.model.training.test_trainer import config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"schedule": "x", "steps": 0, "ema_decay": 1.0, "precision": "fp8", "decode_prior_share": 2.0},
            "steps .*found 0; schedule .*found 'x'; ema_decay .*found 1.0; precision .*found 'fp8'; "
            "decode_prior_share .*found 2.0",
        ),
        ({"decode_prior_share": 0.5}, "decode_prior_share 0.5 has no effect without decoder_alone_start_step"),
        (
            {"decode_start_step": 2, "decoder_alone_start_step": 1},
            "decoder_alone_start_step 1 is before decode_start_step 2; raise it",
        ),
        ({"decode_start_step": 3}, "adversarial_start_step 2 is before decode_start_step 3"),
    ],
)
def test_impossible_settings_are_all_reported(changes: dict[str, Any], message: str) -> None:
    assert TrainingConfig.from_dict(config().to_dict()) == config()
    with pytest.raises(ConfigError, match=message):
        TrainingConfig.from_dict({**config().to_dict(), **changes})
