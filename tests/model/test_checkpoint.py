"""Key map, strict loading, published files, our own format."""

import json
import pickle

import pytest
import torch
from torch import nn

from model import checkpoint
from model.checkpoint import CheckpointError, load_checkpoint, load_reference_state, save_checkpoint
from model.config import DiscriminatorConfig, ModelConfig
from model.discriminators import DurationDiscriminator, MultiPeriodDiscriminator
from model.synthesizer import Synthesizer


def full_size_generator(published: dict) -> nn.Module:
    model = published["model"]
    return Synthesizer(
        ModelConfig(
            n_symbols=published["n_vocab"],
            n_speakers=published["n_speakers"],
            speaker_channels=model["gin_channels"],
            spectrogram_channels=published["spec_channels"],
        )
    )


NETWORKS = {
    "generator": ("G_full_keys.json", full_size_generator),
    "discriminator": ("D_keys.json", lambda published: MultiPeriodDiscriminator(DiscriminatorConfig())),
    "duration_discriminator": (
        "DUR_full_keys.json",
        lambda published: DurationDiscriminator(in_channels=192, filter_channels=192, speaker_channels=256),
    ),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_golden_key_map_covers_full_size_checkpoints(golden_folder, kind):
    file_name, build = NETWORKS[kind]
    published = json.loads((golden_folder / file_name).read_text(encoding="utf-8"))
    with torch.device("meta"):
        network = build(published)
    shapes = {key: list(tensor.shape) for key, tensor in network.state_dict().items()}
    translated = {checkpoint.to_own_key(key, kind): shape for key, shape in published["state_dict"].items()}
    assert translated == shapes
    assert sum(parameter.numel() for parameter in network.parameters()) == published["n_params"]


@pytest.mark.parametrize("kind", NETWORKS)
def test_golden_key_map_is_reversible(golden_folder, kind):
    published = json.loads((golden_folder / NETWORKS[kind][0]).read_text(encoding="utf-8"))["state_dict"]
    for key in published:
        assert checkpoint.to_reference_key(checkpoint.to_own_key(key, kind), kind) == key


def test_parallel_prefix_is_removed(golden):
    case = golden("duration_predictor")
    wrapped = {f"module.{key}": value for key, value in case.state.items()}
    assert checkpoint.strip_parallel_prefix(wrapped).keys() == case.state.keys()
    assert checkpoint.strip_parallel_prefix({"module.a": torch.zeros(1), "b": torch.zeros(1)}).keys() == {
        "module.a",
        "b",
    }


@pytest.fixture
def published(small_config):
    """A small generator and its weights under published names."""
    model = Synthesizer(
        small_config(
            bert_channels={"ZH": 6},
            decoder="hifigan",
            upsample_rates=(4, 2),
            upsample_kernel_sizes=(8, 4),
            upsample_initial_channels=16,
        )
    )
    return model, {
        checkpoint.to_reference_key(key): value.clone() for key, value in model.state_dict().items()
    }


def test_strict_load_restores_every_weight(published, small_config):
    model, state = published
    other = Synthesizer(model.config)
    report = load_reference_state(other, state)
    assert report.ok
    assert report.loaded == len(state)
    for key, value in other.state_dict().items():
        assert torch.equal(value, model.state_dict()[key])


def test_imperfect_load_names_every_kind_of_problem_in_published_names(published):
    model, state = published
    del state["enc_p.emb.weight"]
    state["enc_p.extra"] = torch.zeros(1)
    state["emb_g.weight"] = torch.zeros(7, 8)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_reference_state(model, {key: value + 1 for key, value in state.items()})
    message = str(caught.value)
    assert "1 missing: enc_p.emb.weight" in message
    assert "1 unexpected: enc_p.extra" in message
    assert "1 misshapen: emb_g.weight (7, 8) for (3, 8)" in message
    assert "\n" not in message
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_lenient_load_takes_what_fits_and_reports_the_rest(published):
    model, state = published
    state["emb_g.weight"] = torch.zeros(7, 8)
    state["enc_p.emb.weight"] = torch.full_like(state["enc_p.emb.weight"], 2.0)
    report = load_reference_state(model, state, strict=False)
    assert not report.ok
    assert report.misshapen == ("emb_g.weight (7, 8) for (3, 8)",)
    assert (model.text_encoder.symbol_embedding.weight == 2.0).all()


def test_long_lists_of_keys_are_shortened():
    with pytest.raises(CheckpointError, match=r"20 unexpected: .* and 15 more"):
        load_reference_state(nn.Module(), {f"key_{index:02d}": torch.zeros(1) for index in range(20)})


def test_published_file_is_read(tmp_path):
    path = tmp_path / "G_0.pth"
    torch.save({"model": {"module.a": torch.ones(2)}, "iteration": 3, "learning_rate": 1e-4}, path)
    assert checkpoint.read_reference_checkpoint(path)["a"].tolist() == [1, 1]
    torch.save({"a": torch.ones(2)}, path)
    assert list(checkpoint.read_reference_checkpoint(path)) == ["a"]


class Payload:
    """Unpickling this would run code."""

    def __reduce__(self):
        return print, ("must not run",)


def test_unsafe_pickle_is_refused(tmp_path, capsys):
    path = tmp_path / "G_0.pth"
    torch.save({"model": {"a": torch.ones(2)}, "extra": Payload()}, path)
    with pytest.raises(CheckpointError, match="refused, it holds code objects"):
        checkpoint.read_reference_checkpoint(path)
    path.write_bytes(pickle.dumps(Payload(), protocol=2))
    with pytest.raises(CheckpointError, match="G_0.pth"):
        checkpoint.read_reference_checkpoint(path)
    assert "must not run" not in capsys.readouterr().out


def test_damaged_published_files_are_named(tmp_path):
    path = tmp_path / "G_0.pth"
    with pytest.raises(CheckpointError, match="G_0.pth: no such file"):
        checkpoint.read_reference_checkpoint(path)
    torch.save({"model": {"a": torch.ones(1000)}}, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match="G_0.pth: damaged or truncated"):
        checkpoint.read_reference_checkpoint(path)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="G_0.pth"):
        checkpoint.read_reference_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="no weights found"):
        checkpoint.read_reference_checkpoint(path)


@pytest.fixture
def tensors():
    return {
        "generator": {"weight": torch.randn(3, 4), "steps": torch.tensor(7)},
        "ema": {"weight": torch.ones(2)},
    }


def test_checkpoint_round_trip(tmp_path, tensors):
    metadata = {"step": 7, "config": {"name": "größe"}}
    save_checkpoint(tmp_path / "new" / "folder", tensors=tensors, metadata=metadata)
    loaded = load_checkpoint(tmp_path / "new" / "folder")
    assert loaded.metadata == metadata
    assert loaded.tensors.keys() == tensors.keys()
    for name, state in tensors.items():
        for key, value in state.items():
            assert torch.equal(loaded.tensors[name][key], value)
    assert load_checkpoint(tmp_path / "new" / "folder", ["ema"]).tensors.keys() == {"ema"}


def test_same_content_gives_the_same_bytes(tmp_path, tensors):
    for name in ("a", "b"):
        save_checkpoint(tmp_path / name, tensors=tensors, metadata={"step": 1, "b": 2})
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("a", "b")]
    assert files[0] == files[1]
    assert len(files[0]) == 3


def test_saving_again_replaces_only_our_own_files(tmp_path, tensors):
    (tmp_path / "foreign-0123456789abcdef.safetensors").write_bytes(b"not ours")
    save_checkpoint(tmp_path, tensors=tensors, metadata={"step": 1})
    tensors["generator"]["weight"] += 1
    save_checkpoint(tmp_path, tensors=tensors, metadata={"step": 2})
    assert load_checkpoint(tmp_path).metadata == {"step": 2}
    assert len(list(tmp_path.glob("generator-*"))) == 1
    assert (tmp_path / "foreign-0123456789abcdef.safetensors").exists()


@pytest.mark.parametrize("survived_renames", [0, 1, 2])
def test_kill_while_saving_leaves_the_old_checkpoint(tmp_path, tensors, monkeypatch, survived_renames):
    save_checkpoint(tmp_path, tensors=tensors, metadata={"step": 1})
    old = tensors["generator"]["weight"].clone()
    changed = {name: {key: value + 1 for key, value in state.items()} for name, state in tensors.items()}
    renames = []
    replace = checkpoint.os.replace

    def killed(source, target):
        if len(renames) == survived_renames:
            raise KeyboardInterrupt
        renames.append(target)
        replace(source, target)

    monkeypatch.setattr(checkpoint.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, tensors=changed, metadata={"step": 2})
    loaded = load_checkpoint(tmp_path)
    assert loaded.metadata == {"step": 1}
    assert torch.equal(loaded.tensors["generator"]["weight"], old)
    monkeypatch.undo()
    save_checkpoint(tmp_path, tensors=changed, metadata={"step": 2})
    assert load_checkpoint(tmp_path).metadata == {"step": 2}
    assert len(list(tmp_path.iterdir())) == 3


def test_damage_is_named_with_a_remedy(tmp_path, tensors):
    with pytest.raises(CheckpointError, match=r"metadata.json: missing; no checkpoint was ever finished"):
        load_checkpoint(tmp_path)
    save_checkpoint(tmp_path, tensors=tensors, metadata={})
    with pytest.raises(CheckpointError, match="has no discriminator; it holds ema, generator"):
        load_checkpoint(tmp_path, ["discriminator"])
    (path,) = tmp_path.glob("generator-*")
    content = path.read_bytes()
    path.write_bytes(content[:-4])
    with pytest.raises(CheckpointError, match=rf"{path.name}: truncated or altered"):
        load_checkpoint(tmp_path)
    path.unlink()
    with pytest.raises(CheckpointError, match=rf"{path.name}: missing though metadata.json lists it"):
        load_checkpoint(tmp_path)
    metadata = tmp_path / "metadata.json"
    metadata.write_text(metadata.read_text()[:-20])
    with pytest.raises(CheckpointError, match="metadata.json: unreadable"):
        load_checkpoint(tmp_path)
    metadata.write_text('{"format_version": 99}')
    with pytest.raises(CheckpointError, match="format version 99, expected 1"):
        load_checkpoint(tmp_path)


def test_network_names_are_checked(tmp_path):
    with pytest.raises(ValueError, match="'../x' cannot name a network"):
        save_checkpoint(tmp_path, tensors={"../x": {}}, metadata={})
