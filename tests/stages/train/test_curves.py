"""Training curves: one picture of every logged value, the same bytes for the same log."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from stages.train.curves import write_curves

LOG = [{"step": float(step), "train/mel": 60.0 / step, "train/kl": 1.0 / step} for step in range(1, 7)]
LOG[3]["validation/mel"] = LOG[5]["validation/mel"] = 2.0


def test_the_picture_is_drawn_and_depends_on_the_log_alone(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_curves(tmp_path / name, LOG)
    write_curves(tmp_path / "other.png", LOG[:3])
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 400 and picture.height > 150
    assert (
        (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes() != (tmp_path / "other.png").read_bytes()
    )
