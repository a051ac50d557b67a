"""Pronunciations predicted from spelling by a recurrent encoder-decoder with the weights of g2p-en.

The package is not imported, because importing it downloads data; only its weights file is read. The network is the
encoder-decoder of Cho et al. 2014 (arXiv:1406.1078): one GRU reads the letters, and a second GRU, initialised with the
last state of the first, generates ARPAbet phones greedily.
"""

import importlib.util
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from model.text.errors import ReasonCode, TextError

Array = npt.NDArray[np.float32]

WEIGHTS_PACKAGE: Final = "g2p_en"
WEIGHTS_FILE: Final = "checkpoint20.npz"

_LETTERS: Final = ("<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz")
_VOWELS: Final = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
_CONSONANTS: Final = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH"
MAX_PHONES: Final = 20

_START: Final = 2
_END: Final = 3


def _phone_inventory() -> tuple[str, ...]:
    # The outputs are in alphabetical order after four control symbols and include an unstressed "UW".
    stressed = [vowel + stress for vowel in _VOWELS for stress in "012"]
    return ("<pad>", "<unk>", "<s>", "</s>", *sorted([*stressed, *_CONSONANTS.split(), "UW"]))


class GraphemeToPhoneme:
    """Predictor of the phones of single words.

    weights: enc_* and dec_* hold embeddings and the matrices of the two GRUs (gates in the order reset, update,
    candidate, C = 256 units each), fc_* the output layer over 74 symbols.
    """

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self._phones = _phone_inventory()
        self._letter_ids = {letter: index for index, letter in enumerate(_LETTERS)}
        # Inputs are rows of an embedding table, so their part of every gate can be precomputed as a table.
        self._encoder_inputs = weights["enc_emb"] @ weights["enc_w_ih"].T + weights["enc_b_ih"]
        self._decoder_inputs = weights["dec_emb"] @ weights["dec_w_ih"].T + weights["dec_b_ih"]
        self._encoder_matrix, self._encoder_bias = weights["enc_w_hh"], weights["enc_b_hh"]
        self._decoder_matrix, self._decoder_bias = weights["dec_w_hh"], weights["dec_b_hh"]
        self._output_matrix, self._output_bias = weights["fc_w"], weights["fc_b"]

    def predict(self, word: str) -> tuple[str, ...]:
        """Return the ARPAbet phones, with stress digits, of one lower-case word; empty if the network predicts none."""
        state = np.zeros(self._encoder_matrix.shape[1], np.float32)
        for letter in (*word, "</s>"):
            gates = self._encoder_inputs[self._letter_ids.get(letter, 1)]
            state = _gated_update(gates, state, self._encoder_matrix, self._encoder_bias)
        phones: list[str] = []
        previous = _START
        for _ in range(MAX_PHONES):
            state = _gated_update(self._decoder_inputs[previous], state, self._decoder_matrix, self._decoder_bias)
            previous = int((self._output_matrix @ state + self._output_bias).argmax())
            if previous == _END:
                break
            if previous > _END:
                phones.append(self._phones[previous])
        return tuple("UW0" if phone == "UW" else phone for phone in phones)


def _gated_update(input_gates: Array, state: Array, matrix: Array, bias: Array) -> Array:
    state_gates = matrix @ state + bias
    size = state.shape[0]
    reset_update = 1 / (1 + np.exp(-(input_gates[: 2 * size] + state_gates[: 2 * size])))
    reset, update = reset_update[:size], reset_update[size:]
    candidate = np.tanh(input_gates[2 * size :] + reset * state_gates[2 * size :])
    return np.asarray((1 - update) * candidate + update * state, np.float32)


@lru_cache(maxsize=1)
def load_grapheme_to_phoneme() -> GraphemeToPhoneme:
    """Return the network with the packaged weights. Raises TextError missing_resource without the package."""
    # find_spec locates a top-level package without executing its code.
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    if spec is None or spec.origin is None:
        raise TextError(ReasonCode.MISSING_RESOURCE, f"package {WEIGHTS_PACKAGE} is not installed: pip install g2p-en")
    path = Path(spec.origin).with_name(WEIGHTS_FILE)
    if not path.is_file():
        raise TextError(ReasonCode.MISSING_RESOURCE, f"{path} is missing; g2p-en 2.1.0 ships it")
    with np.load(path) as archive:
        return GraphemeToPhoneme({name: archive[name].astype(np.float32) for name in archive.files})
