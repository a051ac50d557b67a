"""Export to the published layout: round trips bit for bit, and what that format cannot express."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model.checkpoints.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from model.checkpoints.published.exporting import export_published, main
from model.checkpoints.published.importing import PublishedFiles, import_published
from model.checkpoints.published.keys import to_own_key
from model.inference.voice import Voice
from model.synthesizer import Synthesizer
from model.text.symbols import SymbolTable
from tests.model.full_disk import files_up_to
from tests.model.training.published_training import (
    build_duration_discriminator,
    build_generator,
    small_config,
    write_full_discriminator,
    write_training,
)


def imported_voice(folder: Path, config: dict[str, Any] | None = None) -> Path:
    paths = write_training(folder / "training", config)
    import_published(PublishedFiles(**paths), folder / "voice")
    return folder / "voice"


def same_weights(first: Path, second: Path) -> bool:
    one, two = load_checkpoint(first).tensors, load_checkpoint(second).tensors
    return one.keys() == two.keys() and all(
        one[name].keys() == two[name].keys() and all(torch.equal(one[name][key], two[name][key]) for key in one[name])
        for name in one
    )


def test_import_of_an_export_is_the_same_voice_bit_for_bit(tmp_path: Path) -> None:
    paths = write_training(tmp_path / "training")
    write_full_discriminator(tmp_path / "D_12.pth")
    import_published(PublishedFiles(**paths, discriminator=tmp_path / "D_12.pth"), tmp_path / "voice")
    original = torch.load(tmp_path / "D_12.pth", weights_only=True)["model"]
    judge = load_checkpoint(tmp_path / "voice", ["discriminator"]).tensors["discriminator"]
    assert len(judge) == len(original)
    assert all(
        torch.equal(judge[to_own_key(key.removeprefix("module."), "discriminator")], value)
        for key, value in original.items()
    )
    written = export_published(tmp_path / "voice", tmp_path / "out")
    assert [path.name for path in written] == ["G_12.pth", "D_12.pth", "DUR_12.pth", "config.json"]
    import_published(PublishedFiles(written[0], written[3], written[1], written[2]), tmp_path / "again")
    assert same_weights(tmp_path / "voice", tmp_path / "again")
    once, twice = (load_checkpoint(tmp_path / name, []).metadata for name in ("voice", "again"))
    assert {key for key in once if once[key] != twice[key]} <= {"lineage", "source_note"}


def test_the_files_are_those_of_the_original(tmp_path: Path) -> None:
    paths = write_training(tmp_path / "training")
    import_published(PublishedFiles(**paths), tmp_path / "voice")
    generator, judge, config = export_published(tmp_path / "voice", tmp_path / "out")
    for written, original in ((generator, paths["generator"]), (judge, paths["duration_discriminator"])):
        content, expected = torch.load(written, weights_only=True), torch.load(original, weights_only=True)
        assert set(content) == set(expected) == {"model", "iteration", "optimizer", "learning_rate"}
        assert (content["iteration"], content["learning_rate"]) == (12, 0.00019)
        assert {f"module.{key}" for key in content["model"]} == set(expected["model"])
        assert all(torch.equal(value, expected["model"][f"module.{key}"]) for key, value in content["model"].items())
    written_config, expected_config = json.loads(config.read_text()), small_config()
    assert written_config["train"] == expected_config["train"]
    assert written_config["model"].items() >= expected_config["model"].items()
    for key in set(expected_config["data"]) - {"training_files", "validation_files", "spk2id"}:
        assert written_config["data"][key] == expected_config["data"][key]
    assert written_config["data"]["spk2id"] == {"anna": 0, "speaker 1": 1, "ben": 2}


@pytest.mark.parametrize(
    "changes",
    [
        {"use_transformer_flow": False, "use_sdp": False},
        {"use_mel_posterior_encoder": True, "use_spk_conditioned_encoder": False},
        {"n_layers_trans_flow": 3, "n_flow_layer": 2},
    ],
)
def test_variants_of_the_published_family_survive_export_and_import(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = small_config()
    config["model"].update(changes)
    voice = imported_voice(tmp_path, config)
    written = export_published(voice, tmp_path / "out")
    import_published(PublishedFiles(written[0], written[-1], duration_discriminator=written[1]), tmp_path / "again")
    assert same_weights(voice, tmp_path / "again")
    assert Voice(voice).config == Voice(tmp_path / "again").config


def own_voice(folder: Path, **changes: Any) -> Path:
    """A voice as training writes it: the project's own tone table, no features for Mandarin and Japanese."""
    table = SymbolTable()
    config = replace(build_generator(small_config()).config, n_tones=table.tone_count, bert_channels={}, **changes)
    settings = small_config()["data"]
    spectrogram = {
        "sample_rate_hz": settings["sampling_rate"],
        "n_fft": 64,
        "hop_samples": 8,
        "win_samples": 64,
        "n_mels": 20,
    }
    save_checkpoint(
        folder,
        tensors={
            "synthesizer": Synthesizer(config).state_dict(),
            "duration_discriminator": build_duration_discriminator(small_config()).state_dict(),
            "discriminator": {"discriminators.0.conv_post.bias": torch.zeros(1)},
        },
        metadata={
            "model": config.to_dict(),
            "spectrogram": spectrogram,
            "posterior_input": "linear",
            "symbols": table.to_dict(),
            "add_blank": False,
            "speakers": ["a", "b", "c", "d"],
            "encoders": {},
            "lexicon": {},
            "step": 7,
            "source_note": "",
        },
    )
    return folder


def test_a_voice_of_our_own_training_is_exported_without_the_additional_tone(tmp_path: Path) -> None:
    voice = own_voice(tmp_path / "voice")
    with pytest.raises(CheckpointError, match=r"its table has 12 tones, the published one 11; pass --drop-additions"):
        export_published(voice, tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"discriminator: it is not of the published size; pass --generator-only"):
        export_published(voice, tmp_path / "out", drop_additions=True)
    assert not (tmp_path / "out").exists()
    generator, config = export_published(voice, tmp_path / "out", drop_additions=True, generator_only=True)
    assert (generator.name, json.loads(config.read_text())["model"]["use_duration_discriminator"]) == ("G_7.pth", False)
    state = torch.load(generator, weights_only=True)["model"]
    assert not any(
        state[f"enc_p.{name}.{kind}"].any() for name in ("bert_proj", "ja_bert_proj") for kind in ("weight", "bias")
    )
    import_published(PublishedFiles(generator, config), tmp_path / "again")
    spoken = [Voice(folder).say("Hello.", language="EN", speaker="b").samples for folder in (voice, tmp_path / "again")]
    torch.testing.assert_close(torch.from_numpy(spoken[1]), torch.from_numpy(spoken[0]))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"decoder": "istft", "istft_n_fft": 32}, r"decoder istft \(published: hifigan\)"),
        ({"frame_prior_layers": 2}, r"frame_prior_layers 2 \(published: 0\)"),
        ({"share_flow_parameters": True}, r"share_flow_parameters True \(published: False\)"),
        (
            {"posterior_layers": 2, "flow_kernel_size": 3},
            r"flow_kernel_size 3 \(published: 5\); posterior_layers 2 \(published: 16\)",
        ),
        ({"sdp_channels": 4}, r"sdp_channels 4 \(published: 16\)"),
        (
            {"bert_channels": {"EN": 6, "ZH": 7}},
            r"bert_channels of EN 6 \(published: none\); bert_channels of ZH 7 \(published: 1024\)",
        ),
        ({"flow_layers": 2}, r"flow_layers 2 \(published: at least 3\)"),
    ],
)
def test_what_the_published_format_cannot_express_is_named(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    config = {"bert_channels": {}, **changes}
    voice = own_voice(tmp_path / "voice")
    metadata = load_checkpoint(voice, []).metadata
    model = replace(build_generator(small_config()).config, n_tones=12, **config)
    save_checkpoint(
        voice, tensors={"synthesizer": Synthesizer(model).state_dict()}, metadata={**metadata, "model": model.to_dict()}
    )
    with pytest.raises(CheckpointError, match=named) as caught:
        export_published(voice, tmp_path / "out", drop_additions=True, generator_only=True)
    assert "\n" not in str(caught.value)
    assert "istft_n_fft" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    voice = imported_voice(tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    with (
        files_up_to(20_000),
        pytest.raises(CheckpointError, match=r"out: cannot be written .*free some space") as caught,
    ):
        export_published(voice, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_the_command_lists_the_files_and_ends_refusals_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    voice = imported_voice(tmp_path)
    monkeypatch.setattr(sys, "argv", ["export_published", "--voice", str(voice), "--out", str(tmp_path / "out")])
    main()
    assert [Path(line).name for line in capsys.readouterr().out.splitlines()] == [
        "G_12.pth",
        "DUR_12.pth",
        "config.json",
    ]
    with pytest.raises(SystemExit, match="error: .*out: is not empty"):
        main()
