"""The project's own checkpoint format: round trips, kills while saving, damage."""

import errno

import pytest
import torch

from model.checkpoints import checkpoint
from model.checkpoints.checkpoint import (
    CheckpointError,
    checkpoint_sha256,
    load_checkpoint,
    new_folder,
    save_checkpoint,
)
from tests.model.full_disk import files_up_to


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


def test_the_hash_of_a_checkpoint_follows_every_weight_and_fact(tmp_path, tensors):
    hashes = []
    for name, step, change in (("a", 1, 0.0), ("b", 1, 0.0), ("c", 2, 0.0), ("d", 1, 1e-3)):
        changed = {**tensors, "ema": {"weight": tensors["ema"]["weight"] + change}}
        save_checkpoint(tmp_path / name, tensors=changed, metadata={"step": step})
        hashes.append(checkpoint_sha256(tmp_path / name))
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3
    with pytest.raises(CheckpointError, match=r"metadata.json: missing"):
        checkpoint_sha256(tmp_path)


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
    with pytest.raises(CheckpointError, match=r"metadata.json: missing; no checkpoint was completed"):
        load_checkpoint(tmp_path)
    save_checkpoint(tmp_path, tensors=tensors, metadata={})
    with pytest.raises(CheckpointError, match="has no discriminator; it has ema, generator"):
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
    metadata.write_text('{"format_version": 1}')
    with pytest.raises(CheckpointError, match="metadata.json: lists no files or no metadata"):
        load_checkpoint(tmp_path)


def test_network_names_are_checked(tmp_path):
    with pytest.raises(ValueError, match="'../x' cannot name a network"):
        save_checkpoint(tmp_path, tensors={"../x": {}}, metadata={})


@pytest.mark.parametrize(("n_weights", "n_characters"), [(4000, 1), (1, 9000)], ids=["weights", "metadata"])
def test_a_full_disk_leaves_the_old_checkpoint_and_no_fragments(tmp_path, tensors, n_weights, n_characters):
    save_checkpoint(tmp_path, tensors=tensors, metadata={"step": 1})
    larger = {"generator": {"weight": torch.zeros(n_weights)}}
    with files_up_to(5000), pytest.raises(OSError, match="File too large") as caught:
        save_checkpoint(tmp_path, tensors=larger, metadata={"step": 2, "note": "n" * n_characters})
    assert caught.value.errno == errno.EFBIG
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    loaded = load_checkpoint(tmp_path)
    assert loaded.metadata == {"step": 1}
    assert torch.equal(loaded.tensors["generator"]["weight"], tensors["generator"]["weight"])


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path, tensors):
    with new_folder(tmp_path / "voice") as folder:
        save_checkpoint(folder, tensors=tensors, metadata={})
        assert not (tmp_path / "voice").exists()
    assert load_checkpoint(tmp_path / "voice").metadata == {}
    full = pytest.raises(CheckpointError, match=r"other: cannot be written .*; free some space")
    with files_up_to(50), full as caught, new_folder(tmp_path / "other") as folder:
        save_checkpoint(folder, tensors=tensors, metadata={})
    assert "\n" not in str(caught.value)
    with pytest.raises(KeyError), new_folder(tmp_path / "other") as folder:
        (folder / "half").write_text("half")
        raise KeyError("a bug")
    with pytest.raises(CheckpointError, match="voice: is not empty"), new_folder(tmp_path / "voice"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["voice"]
