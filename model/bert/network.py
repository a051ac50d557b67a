"""Networks of the encoders, from token ids to hidden states.

A plain BERT runs in torch alone, with the same bits as transformers' BertModel and without the seconds and the memory
that importing transformers takes. Other encoders, such as a RoBERTa, are run by transformers.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from model.bert.quantised import BertShape

_EARLIER_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


class Bert:
    """The embeddings and the first `n_layers` layers of a BERT in fp32, by their weights' names in transformers."""

    def __init__(
        self, shape: BertShape, n_layers: int, weights: Mapping[str, torch.Tensor], device: str = "cpu"
    ) -> None:
        """Raises ValueError for weights that are missing or have another size."""
        self._shape = shape
        self._n_layers = n_layers
        self._weights = {}
        for name, size in shape.weight_sizes(n_layers).items():
            if name not in weights:
                raise ValueError(f"weight {name} is missing")
            if weights[name].shape != size:
                raise ValueError(f"weight {name} has size {tuple(weights[name].shape)}, expected {size}")
            self._weights[name] = weights[name].to(device, torch.float32)

    def __call__(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Return the last layer's output (texts, tokens, channels) for token ids (texts, tokens) without padding."""
        words, positions, types = (
            self._weights[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "position", "token_type")
        )
        hidden = functional.embedding(token_ids, words) + types[0] + positions[: token_ids.shape[1]]
        hidden = self._norm(hidden, "embeddings.LayerNorm")
        for layer in range(self._n_layers):
            hidden = self._layer(hidden, f"encoder.layer.{layer}.")
        return hidden

    def _layer(self, hidden: torch.Tensor, prefix: str) -> torch.Tensor:
        head_channels = self._shape.hidden // self._shape.n_heads
        query, key, value = (
            self._linear(hidden, f"{prefix}attention.self.{part}").unflatten(-1, (-1, head_channels)).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        attended = functional.scaled_dot_product_attention(query, key, value, scale=head_channels**-0.5)
        attended = self._linear(attended.transpose(1, 2).flatten(2), f"{prefix}attention.output.dense")
        hidden = self._norm(attended + hidden, f"{prefix}attention.output.LayerNorm")
        inner = functional.gelu(self._linear(hidden, f"{prefix}intermediate.dense"))
        return self._norm(self._linear(inner, f"{prefix}output.dense") + hidden, f"{prefix}output.LayerNorm")

    def _linear(self, values: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(values, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, values: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.layer_norm(values, weight.shape, weight, bias, self._shape.epsilon)


def read_shape(folder: Path) -> BertShape | None:
    """Return the sizes in a model folder's config.json, None if it is not of a plain BERT."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if (
            config["model_type"] != "bert"
            or config["hidden_act"] != "gelu"
            or config.get("position_embedding_type", "absolute") != "absolute"
            or config.get("is_decoder", False)
            or config["hidden_size"] % config["num_attention_heads"]
        ):
            return None
        return BertShape(
            hidden=config["hidden_size"],
            n_layers=config["num_hidden_layers"],
            n_heads=config["num_attention_heads"],
            inner=config["intermediate_size"],
            n_words=config["vocab_size"],
            n_positions=config["max_position_embeddings"],
            n_types=config["type_vocab_size"],
            epsilon=config["layer_norm_eps"],
        )
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return None


def read_published_weights(path: Path, shape: BertShape) -> dict[str, torch.Tensor]:
    """Return the weights in a file of transformers. Raises ValueError if a layer's are missing or it is damaged."""
    weights = {_current_name(name): weight for name, weight in _read_tensors(path).items()}
    if missing := [name for name in shape.weight_sizes(shape.n_layers) if name not in weights]:
        raise ValueError(f"{len(missing)} weights are missing, for example {missing[0]}")
    return weights


def _current_name(name: str) -> str:
    name = name.removeprefix("bert.")
    for earlier, current in _EARLIER_NAMES.items():
        if name.endswith(earlier):
            return name.removesuffix(earlier) + current
    return name


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return tensors
    except (OSError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        raise ValueError(str(error).splitlines()[0]) from None


class TransformersNetwork(nn.Module):
    """An encoder of transformers in fp32."""

    def __init__(self, folder: Path) -> None:
        """Load the encoder. Raises ValueError for a folder that is not usable."""
        from transformers import AutoModel
        from transformers.utils import logging

        super().__init__()
        logging.disable_progress_bar()
        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()  # unused weights, such as those of a language-model head, are expected
        try:
            network, loading = AutoModel.from_pretrained(
                folder, local_files_only=True, output_loading_info=True, trust_remote_code=False
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(str(error).splitlines()[0]) from None
        finally:
            logging.set_verbosity(verbosity)
        # Missing weights are initialised at random. Only the pooler, which is not used, may lack them.
        if missing := sorted(key for key in loading["missing_keys"] if not key.startswith("pooler.")):
            raise ValueError(f"{len(missing)} weights are missing, for example {missing[0]}")
        if not hasattr(getattr(network, "encoder", None), "layer"):
            raise ValueError(f"a {type(network).__name__} has no list of encoder layers; expected a BERT")
        network.pooler = None
        self.network = network.float().eval()
        self.n_layers = len(network.encoder.layer)
        self.n_channels = int(network.config.hidden_size)
        # RoBERTa and its variants number positions from the padding index + 1.
        n_unused_positions = getattr(network.embeddings, "padding_idx", -1) + 1
        self.max_tokens = int(network.config.max_position_embeddings) - n_unused_positions

    def keep_layers(self, n_layers: int) -> None:
        """Remove the layers above the first `n_layers`."""
        self.network.encoder.layer = self.network.encoder.layer[:n_layers]

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Return the last layer's output (texts, tokens, channels) for token ids (texts, tokens) without padding."""
        mask = torch.ones_like(token_ids)
        hidden: torch.Tensor = self.network(input_ids=token_ids, attention_mask=mask).last_hidden_state
        return hidden
