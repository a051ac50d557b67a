"""Import of published trainings: every weight, clear refusals, and nothing written on failure."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.checkpoints.checkpoint import CheckpointError, load_checkpoint
from model.checkpoints.published.importing import PublishedFiles, import_published, main
from model.checkpoints.published.keys import to_own_key
from model.inference.voice import Voice
from model.text.symbols import SymbolTable
from tests.model.training.published_training import build_generator, small_config, write_checkpoint, write_training


def run_import(paths: dict[str, Path], out: Path, **changes: Path) -> Any:
    return import_published(PublishedFiles(**{**paths, **changes}), out)


def own_weights(path: Path, kind: Any) -> dict[str, torch.Tensor]:
    return {
        to_own_key(key.removeprefix("module."), kind): value
        for key, value in torch.load(path, weights_only=True)["model"].items()
    }


def test_every_published_weight_arrives_bit_for_bit(tmp_path: Path) -> None:
    paths = write_training(tmp_path / "training")
    report = run_import(paths, tmp_path / "voice")
    loaded = load_checkpoint(tmp_path / "voice")
    assert set(loaded.tensors) == {"synthesizer", "duration_discriminator"}
    for name, kind in (("synthesizer", "generator"), ("duration_discriminator", "duration_discriminator")):
        expected = own_weights(paths[kind], kind)
        assert loaded.tensors[name].keys() == expected.keys()
        assert all(torch.equal(loaded.tensors[name][key], value) for key, value in expected.items())
        assert report.networks[name] == len(expected)
        assert f"{len(expected)} keys fit" in str(report)
    assert loaded.metadata["step"] == 12


def test_an_imported_voice_speaks_with_the_published_tables(tmp_path: Path) -> None:
    run_import(write_training(tmp_path / "training"), tmp_path / "voice")
    voice = Voice(tmp_path / "voice")
    assert voice.symbols == SymbolTable.reference()
    assert voice.speakers == ("anna", "speaker 1", "ben")
    assert voice.config.n_speakers == 4
    assert voice.spectrogram.sample_rate_hz == 8000
    assert (voice.metadata["posterior_input"], voice.add_blank) == ("linear", True)
    assert voice.metadata["encoders"]["ZH"]["name"] == "hfl/chinese-roberta-wwm-ext-large"
    spoken = [voice.say("One call.", language="EN", speaker=name).samples for name in ("anna", "ben")]
    assert all(np.isfinite(each).all() and len(each) > 0 for each in spoken)
    assert not np.array_equal(*spoken)
    assert len(voice.resynthesise(np.zeros(400, dtype=np.int16))) == 400


def changed(section: str, **values: Any) -> dict[str, Any]:
    config = small_config()
    config[section].update(values)
    return config


@pytest.mark.parametrize(
    "config",
    [
        changed("model", use_mel_posterior_encoder=True),
        changed("model", use_transformer_flow=False),
        changed("model", use_sdp=False),
        changed("model", use_spk_conditioned_encoder=False),
        changed("model", n_layers_trans_flow=4, n_flow_layer=2),
        changed("data", n_speakers=0, spk2id={}),
        changed("data", n_speakers=1, spk2id={"anna": 0}),
    ],
    ids=["mel", "residual_flow", "no_sdp", "unconditioned", "flow_sizes", "reference_encoder", "one_speaker"],
)
def test_every_published_variant_is_imported(tmp_path: Path, config: dict[str, Any]) -> None:
    run_import(write_training(tmp_path / "training", config), tmp_path / "voice")
    voice = Voice(tmp_path / "voice")
    assert voice.config == build_generator(config).config
    assert voice.metadata["posterior_input"] == ("mel" if config["model"]["use_mel_posterior_encoder"] else "linear")


def edit_weights(path: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    content = torch.load(path, weights_only=True)
    edit(content["model"])
    torch.save(content, path)


def edit_config(path: Path, section: str, **values: Any) -> None:
    content = json.loads(path.read_text())
    content[section].update(values)
    path.write_text(json.dumps(content))


FAULTS: dict[str, tuple[Callable[[dict[str, Path]], Any], str]] = {
    "missing": (
        lambda p: edit_weights(p["generator"], lambda w: w.pop("module.enc_p.proj.bias")),
        r"G_12\.pth: .*1 missing: enc_p\.proj\.bias",
    ),
    "unexpected": (
        lambda p: edit_weights(p["generator"], lambda w: w.update({"module.x": torch.ones(1)})),
        r"G_12\.pth: .*1 unexpected: x",
    ),
    "misshapen": (
        lambda p: edit_config(p["config"], "data", n_speakers=5),
        r"G_12\.pth: .*emb_g\.weight \(4, 8\) for \(5, 8\)",
    ),
    "judge": (
        lambda p: edit_weights(p["duration_discriminator"], lambda w: w.pop("module.cond.bias")),
        r"DUR_12\.pth: .*missing: cond\.bias",
    ),
    "hop": (
        lambda p: edit_config(p["config"], "model", upsample_rates=[4, 4]),
        r"config\.json: .*hop_samples 8 is not the product",
    ),
    "posterior": (
        lambda p: edit_config(p["config"], "data", filter_length=128, win_length=128),
        r"weights read 33 channels, neither",
    ),
    "segment": (
        lambda p: edit_config(p["config"], "train", segment_size=63),
        r"segment_size 63 is not a multiple of data\.hop_length 8",
    ),
    "shared": (
        lambda p: edit_config(p["config"], "model", flow_share_parameter=True),
        r"config\.json: .*flow_share_parameter",
    ),
    "speakers": (lambda p: edit_config(p["config"], "data", spk2id={"anna": 9}), r"spk2id has ids outside 0\.\.3"),
    "same id": (
        lambda p: edit_config(p["config"], "data", spk2id={"anna": 1, "ben": 1}),
        r"spk2id gives one id to several",
    ),
    "section": (lambda p: p["config"].write_text('{"model": {}}'), r"config\.json: no section train, data"),
    "no key": (
        lambda p: (
            edit_config(p["config"], "model")
            or p["config"].write_text(p["config"].read_text().replace("hop_length", "hop"))
        ),
        r"config\.json: no hop_length",
    ),
    "not json": (lambda p: p["config"].write_text("{"), r"config\.json: not readable as JSON"),
    "no config": (lambda p: p["config"].unlink(), r"config\.json: no such file"),
    "swapped": (
        lambda p: p["generator"].write_bytes(p["duration_discriminator"].read_bytes()),
        r"G_12\.pth: no enc_q\.pre\.weight",
    ),
    "truncated": (
        lambda p: p["generator"].write_bytes(p["generator"].read_bytes()[:-300]),
        r"G_12\.pth: damaged or truncated",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_mismatch_is_one_clear_line_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    paths = write_training(tmp_path / "training")
    spoil, message = FAULTS[name]
    spoil(paths)
    with pytest.raises(CheckpointError, match=message) as caught:
        run_import(paths, tmp_path / "voice")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "voice").exists()


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    paths = write_training(tmp_path / "training")
    (tmp_path / "voice").mkdir()
    (tmp_path / "voice" / "metadata.json").write_text("mine")
    with pytest.raises(CheckpointError, match="voice: is not empty"):
        run_import(paths, tmp_path / "voice")
    assert (tmp_path / "voice" / "metadata.json").read_text() == "mine"


def test_weights_in_half_precision_and_without_prefix_are_imported_in_full_precision(tmp_path: Path) -> None:
    paths = write_training(tmp_path / "training")
    write_checkpoint(paths["generator"], build_generator(small_config()).half(), "generator", prefix="")
    run_import(paths, tmp_path / "voice")
    assert {tensor.dtype for tensor in load_checkpoint(tmp_path / "voice").tensors["synthesizer"].values()} == {
        torch.float32
    }


def test_the_command_prints_the_report_and_ends_bad_input_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = write_training(tmp_path / "training")
    command = [
        "import_published",
        "--generator",
        str(paths["generator"]),
        "--config",
        str(paths["config"]),
        "--out",
        str(tmp_path / "voice"),
    ]
    monkeypatch.setattr(sys, "argv", command)
    main()
    assert "keys fit" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="error: .*voice: is not empty"):
        main()
