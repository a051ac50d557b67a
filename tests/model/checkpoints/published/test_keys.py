"""Published names: strict loading, `.pth` files read and written, unsafe pickles refused."""

import pickle

import pytest
import torch
from torch import nn

from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.published import keys as published_names
from model.checkpoints.published.keys import fit_reference_state, read_published_file, write_published_file
from model.synthesizer import Synthesizer
from tests.model.published_weights import load_published


def test_parallel_prefix_is_removed_only_where_every_key_has_it():
    wrapped = {"module.a": torch.zeros(1), "module.module.b": torch.ones(1)}
    assert published_names.strip_parallel_prefix(wrapped).keys() == {"a", "module.b"}
    mixed = {"module.a": torch.zeros(1), "b": torch.zeros(1)}
    assert published_names.strip_parallel_prefix(mixed).keys() == {"module.a", "b"}


@pytest.fixture
def generator(small_config):
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
    return model, {published_names.to_reference_key(key): value.clone() for key, value in model.state_dict().items()}


def test_strict_load_restores_every_weight(generator, small_config):
    model, state = generator
    other = Synthesizer(model.config)
    report = load_published(other, state)
    assert report.ok
    assert report.loaded == len(state)
    for key, value in other.state_dict().items():
        assert torch.equal(value, model.state_dict()[key])


def test_imperfect_load_names_every_kind_of_problem_in_published_names(generator):
    model, state = generator
    del state["enc_p.emb.weight"]
    state["enc_p.extra"] = torch.zeros(1)
    state["emb_g.weight"] = torch.zeros(7, 8)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_published(model, {key: value + 1 for key, value in state.items()})
    message = str(caught.value)
    assert "1 missing: enc_p.emb.weight" in message
    assert "1 unexpected: enc_p.extra" in message
    assert "1 misshapen: emb_g.weight (7, 8) for (3, 8)" in message
    assert "\n" not in message
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_what_fits_is_returned_and_the_rest_reported(generator):
    model, state = generator
    state["emb_g.weight"] = torch.zeros(7, 8)
    state["enc_p.emb.weight"] = torch.full_like(state["enc_p.emb.weight"], 2.0)
    fitting, report = fit_reference_state(model, state)
    assert not report.ok
    assert report.misshapen == ("emb_g.weight (7, 8) for (3, 8)",)
    assert (fitting["text_encoder.symbol_embedding.weight"] == 2.0).all()


def test_long_lists_of_keys_are_shortened():
    with pytest.raises(CheckpointError, match=r"20 unexpected: .* and 15 more"):
        load_published(nn.Module(), {f"key_{index:02d}": torch.zeros(1) for index in range(20)})


def test_a_weight_spelled_twice_is_unexpected():
    module = nn.utils.parametrizations.weight_norm(nn.Conv1d(2, 2, 1))
    state = {"weight_g": torch.ones(2, 1, 1), "weight_v": torch.ones(2, 2, 1), "bias": torch.zeros(2)}
    assert load_published(module, state, kind="discriminator").loaded == 3
    state["parametrizations.weight.original0"] = torch.zeros(2, 1, 1)
    with pytest.raises(CheckpointError, match=r"1 unexpected: parametrizations\.weight\.original0"):
        load_published(module, state, kind="discriminator")


def test_published_file_is_read(tmp_path):
    path = tmp_path / "G_0.pth"
    torch.save(
        {"model": {"module.a": torch.ones(2)}, "iteration": 3, "optimizer": {"state": {}}, "learning_rate": 1e-4}, path
    )
    content = read_published_file(path)
    assert content.state["a"].tolist() == [1, 1]
    assert (content.iteration, content.learning_rate) == (3, 1e-4)
    torch.save({"a": torch.ones(2)}, path)
    assert list(read_published_file(path).state) == ["a"]


def test_written_file_has_the_published_layout(tmp_path):
    module = nn.utils.parametrizations.weight_norm(nn.Conv1d(2, 2, 1))
    path = tmp_path / "D_7.pth"
    write_published_file(path, module.state_dict(), kind="discriminator", iteration=7, learning_rate=2e-4)
    content = torch.load(path, weights_only=True)
    assert {key: value for key, value in content.items() if key != "model"} == {
        "iteration": 7,
        "optimizer": None,
        "learning_rate": 2e-4,
    }
    assert set(content["model"]) == {"weight_g", "weight_v", "bias"}
    assert list(tmp_path.iterdir()) == [path]


class Payload:
    """Unpickling this runs code: it makes a file."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return open, (self.trace, "w")


@pytest.mark.parametrize("legacy", [False, True])
def test_an_unsafe_pickle_is_refused_and_its_code_never_runs(tmp_path, legacy):
    path, trace = tmp_path / "G_0.pth", tmp_path / "code ran"
    content = {"model": {"a": torch.ones(2)}, "extra": Payload(trace)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"G_0.pth: refused: it contains code objects") as caught:
        read_published_file(path)
    assert "\n" not in str(caught.value)
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists(), "the file would have run code, had it been let"


def test_a_bare_unsafe_pickle_is_refused(tmp_path):
    path, trace = tmp_path / "G_0.pth", tmp_path / "code ran"
    path.write_bytes(pickle.dumps(Payload(trace), protocol=2))
    with pytest.raises(CheckpointError, match="G_0.pth"):
        read_published_file(path)
    assert not trace.exists()


def test_damaged_published_files_are_named(tmp_path):
    path = tmp_path / "G_0.pth"
    with pytest.raises(CheckpointError, match="G_0.pth: no such file"):
        read_published_file(path)
    torch.save({"model": {"a": torch.ones(1000)}}, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match="G_0.pth: damaged or truncated"):
        read_published_file(path)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="G_0.pth"):
        read_published_file(path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="no weights found"):
        read_published_file(path)
    torch.save({"model": {"a": 3}}, path)
    with pytest.raises(CheckpointError, match="no weights found"):
        read_published_file(path)
    for length in (1, 10, 100):
        path.write_bytes(bytes(range(length)))
        with pytest.raises(CheckpointError, match="G_0.pth"):
            read_published_file(path)
