"""How each kind of golden case is run through our networks. Every size comes from the case's own configuration and
tensors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model.audio.settings import SpectrogramSettings
from model.audio.spectrogram import linear_spectrogram, mel_filterbank
from model.audio.spectrogram_torch import log_mel, log_mel_spectrogram, torch_linear_spectrogram
from model.checkpoints.published import reference_modules
from model.checkpoints.published.config import PublishedSizes, published_model_config
from model.checkpoints.published.reference_modules import ReferenceAttention, ReferenceFeedForward, TransformerDecoder
from model.config import DiscriminatorConfig, ModelConfig
from model.networks import masks
from model.networks.alignment_search import search_durations
from model.networks.attention import ChannelNorm
from model.networks.decoders.hifigan import HifiGanDecoder
from model.networks.duration import DurationPredictor, StochasticDurationPredictor
from model.networks.flows import CouplingFlow, rational_quadratic_spline
from model.networks.posterior_encoder import PosteriorEncoder, ReferenceEncoder
from model.networks.text_encoder import TextEncoder, TransformerEncoder, TransformerShape
from model.synthesizer import Synthesizer, SynthesizerInputs
from model.training.discriminators import DurationDiscriminator, MultiPeriodDiscriminator
from model.training.losses import discriminator_loss, feature_matching_loss, generator_loss, kl_loss
from tests.model.golden_cases import GoldenCase, read_case, read_index
from tests.model.published_weights import load_published

WAVEFORM_TOLERANCE = 1e-4
REFERENCE_ALIGNMENT_NOISE = 0.01
REFERENCE_WINDOW = 4
REFERENCE_SPEAKER_LAYER = 2
BERT_INPUTS = {"bert": "ZH", "ja_bert": "JP", "en_bert": "EN"}

Comparison = Callable[[GoldenCase, Path], None]


def comparison_for(name: str) -> Comparison | None:
    """Return what compares a case: the longest kind that its name holds decides."""
    kinds = sorted((kind for kind in COMPARISONS if kind in name), key=len)
    return COMPARISONS[kinds[-1]] if kinds else None


def loaded(network: nn.Module, case: GoldenCase, prefix: str = "", **options: Any) -> Any:
    """Return the network in evaluation mode with the case's weights, through the key map of published checkpoints."""
    load_published(network, case.state, prefix=prefix, **options)
    return network.eval()


def speakers(config: dict[str, Any]) -> dict[str, int]:
    channels = config.get("gin_channels", 0)
    return {"n_speakers": 1 if channels else 0, "speaker_channels": channels}


def bert_features(case: GoldenCase) -> dict[str, Tensor]:
    return {language: case.inputs[name] for name, language in BERT_INPUTS.items() if name in case.inputs}


def attention(case: GoldenCase, folder: Path) -> None:
    config, given = case.config, case.inputs
    network = loaded(
        ReferenceAttention(
            config["channels"],
            config["out_channels"],
            config["n_heads"],
            window=config.get("window_size"),
            share_heads=config.get("heads_share", True),
            block_length=config.get("block_length"),
            proximal_bias=config.get("proximal_bias", False),
            proximal_init=config.get("proximal_init", False),
        ),
        case,
    )
    keys, blocked = given.get("c", given["x"]), given["mask"] == 0
    case.check("y", network(given["x"], keys, blocked))
    case.check("weights", network.probabilities(given["x"], keys, blocked))


def feed_forward(case: GoldenCase, folder: Path) -> None:
    config = case.config
    block = ReferenceFeedForward(
        channels=config["in_channels"],
        out_channels=config["out_channels"],
        filter_channels=config["filter_channels"],
        kernel_size=config["kernel_size"],
        causal=config.get("causal", False),
        gelu=config.get("activation") == "gelu",
    )
    case.check("y", loaded(block, case, "enc_p.encoder.ffn_layers.0")(case.inputs["x"], case.inputs["mask"]))


def transformer_shape(config: dict[str, Any], window: int | None) -> TransformerShape:
    return TransformerShape(
        hidden_channels=config["hidden_channels"],
        filter_channels=config["filter_channels"],
        n_heads=config["n_heads"],
        n_layers=config["n_layers"],
        kernel_size=config["kernel_size"],
        window=window,
    )


def encoder(case: GoldenCase, folder: Path) -> None:
    config = case.config
    channels = config.get("gin_channels", 0)
    network = TransformerEncoder(
        transformer_shape(config, config.get("window_size", REFERENCE_WINDOW)),
        speaker_channels=channels,
        speaker_layer_index=config.get("cond_layer_idx", REFERENCE_SPEAKER_LAYER) if channels else -1,
    )
    case.check("y", loaded(network, case, "enc_p.encoder")(case.inputs["x"], case.inputs["mask"], case.inputs.get("g")))


def decoder(case: GoldenCase, folder: Path) -> None:
    config, given = case.config, case.inputs
    network = TransformerDecoder(
        transformer_shape(config, config.get("window_size")),
        proximal_bias=config.get("proximal_bias", False),
        proximal_init=config.get("proximal_init", True),
    )
    case.check("y", loaded(network, case)(given["x"], given["mask"], given["h"], given["h_mask"]))


def layer_norm(case: GoldenCase, folder: Path) -> None:
    case.check("y", loaded(ChannelNorm(case.config["channels"], case.config["eps"]), case)(case.inputs["x"]))


def commons(case: GoldenCase, folder: Path) -> None:
    given, config, expected = case.inputs, case.config, case.outputs
    case.check("sequence_mask", masks.sequence_mask(given["lengths"], expected["sequence_mask"].shape[1]))
    path_mask = given["path_mask"][:, 0]
    path = masks.durations_to_path(given["durations"][:, 0], path_mask.shape[1])
    case.check("path", (path * path_mask).unsqueeze(1))
    case.check("slices", masks.slice_segments(given["sig"], given["ids"], config["slice_segment_size"]))
    case.check("shifted", reference_modules.shift_right(given["sig"]))
    case.check("subsequent_mask", reference_modules.subsequent_mask(expected["subsequent_mask"].shape[-1]))
    _, channels, length = expected["timing"].shape
    case.check("timing", reference_modules.timing_signal(length, channels))
    hidden = timed_input(case, folder)
    case.check("added_timing", reference_modules.add_timing_signal(hidden))
    case.check("cat_timing", reference_modules.append_timing_signal(hidden[: len(expected["cat_timing"])]))
    case.check("kl", reference_modules.gaussian_kl(*(given[name] for name in ("m_p", "logs_p", "m_q", "logs_q"))))
    gradients(case)
    for row in config.get("intersperse", []):
        assert reference_modules.intersperse(row[1::2], row[0]) == row


def timed_input(case: GoldenCase, folder: Path) -> Tensor:
    """The tensor that the timing signal was added to: the case's own, or the encoders' input of that shape."""
    shape = case.outputs["added_timing"].shape
    candidates = [case.inputs["x"]] if "x" in case.inputs else list(inputs_named_x(folder))
    fitting = [each for each in candidates if each.shape == shape and each.is_floating_point()]
    assert fitting, f"{case.name}: no input x of shape {tuple(shape)} in the folder"
    signal = case.outputs["timing"]
    return min(fitting, key=lambda each: float((each + signal - case.outputs["added_timing"]).abs().max()))


def inputs_named_x(folder: Path) -> Iterator[Tensor]:
    for name, entry in read_index(folder).items():
        if "in.x" in entry.get("tensors", {}):
            yield read_case(folder, name).inputs["x"]


def gradients(case: GoldenCase) -> None:
    count = sum(name.startswith("grad") for name in case.inputs)
    parameters = [torch.zeros_like(case.inputs[f"grad{index}"]) for index in range(count)]
    for index, parameter in enumerate(parameters):
        parameter.grad = case.inputs[f"grad{index}"].clone()
    case.check("grad_norm", torch.tensor(masks.clip_gradients_by_value(parameters, case.config["clip_value"])))
    for index, parameter in enumerate(parameters):
        assert parameter.grad is not None
        case.check(f"clipped{index}", parameter.grad)


def fused_gate(case: GoldenCase, folder: Path) -> None:
    case.check("y", masks.fused_gate(case.inputs["a"], case.inputs["b"]))


def losses(case: GoldenCase, folder: Path) -> None:
    real, generated = (numbered(case.inputs, letters) for letters in ("dr", "dg"))
    loss = discriminator_loss(real, generated)
    case.check("discriminator", loss.total)
    torch.testing.assert_close(torch.stack([*loss.real_parts, *loss.generated_parts]).sum(), loss.total)
    case.check("generator", generator_loss(generated)[0])
    case.check("feature", feature_matching_loss(feature_maps(case.inputs, "fr"), feature_maps(case.inputs, "fg")))
    case.check("kl", kl_loss(*(case.inputs[name] for name in ("z_p", "logs_q", "m_p", "logs_p", "z_mask"))))


def numbered(tensors: dict[str, Tensor], letters: str) -> list[Tensor]:
    places = sorted(int(found[1]) for name in tensors if (found := re.fullmatch(letters + r"(\d+)", name)))
    return [tensors[f"{letters}{place}"] for place in places]


def feature_maps(tensors: dict[str, Tensor], letters: str) -> list[list[Tensor]]:
    maps: dict[int, dict[int, Tensor]] = {}
    for name, tensor in tensors.items():
        if found := re.fullmatch(letters + r"(\d)_?(\d+)", name):
            maps.setdefault(int(found[1]), {})[int(found[2])] = tensor
    return [[layers[place] for place in sorted(layers)] for _, layers in sorted(maps.items())]


def mel(case: GoldenCase, folder: Path) -> None:
    config, waveform = case.config, case.inputs["wav"]
    assert not config["center"]
    settings = SpectrogramSettings(
        sample_rate_hz=config["sampling_rate"],
        n_fft=config["n_fft"],
        hop_samples=config["hop_length"],
        win_samples=config["win_length"],
        n_mels=config["n_mels"],
        mel_fmin_hz=config["fmin"],
        mel_fmax_hz=config["fmax"],
    )
    filterbank = torch.from_numpy(mel_filterbank(settings))
    case.check("spec", torch_linear_spectrogram(waveform, settings))
    case.check(
        "spec", torch.stack([torch.from_numpy(linear_spectrogram(clip.numpy(), settings).T) for clip in waveform])
    )
    case.check("mel_from_spec", log_mel(case.outputs["spec"], filterbank))
    case.check("mel", log_mel_spectrogram(waveform, settings, filterbank))


def duration_discriminator(case: GoldenCase, folder: Path) -> None:
    config, given = case.config, case.inputs
    network = loaded(
        DurationDiscriminator(
            in_channels=config["in_channels"],
            filter_channels=config["filter_channels"],
            kernel_size=config["kernel_size"],
            speaker_channels=config.get("gin_channels", 0),
        ),
        case,
        kind="duration_discriminator",
    )
    real, generated = network(given["x"], given["mask"], given["logw"], given["logw_hat"], given.get("g"))
    case.check("prob", real)
    case.check("prob_hat", generated)


def transformer_flow(case: GoldenCase, folder: Path) -> None:
    config = case.config
    flow(
        case,
        {
            "flow": "transformer",
            "filter_channels": config["filter_channels"],
            "n_heads": config["n_heads"],
            "share_flow_parameters": config.get("share_parameter", False),
        },
    )


def residual_flow(case: GoldenCase, folder: Path) -> None:
    assert case.config["dilation_rate"] == 1
    flow(case, {"flow": "residual"})


def flow(case: GoldenCase, kind: dict[str, Any]) -> None:
    config, given = case.config, case.inputs
    network = loaded(
        CouplingFlow(
            ModelConfig(
                inter_channels=config["channels"],
                hidden_channels=config["hidden_channels"],
                flow_layers=config["n_layers"],
                flow_kernel_size=config["kernel_size"],
                n_flows=config["n_flows"],
                **kind,
                **speakers(config),
            )
        ),
        case,
        "flow",
    )
    latent_prior = network(given["z"], given["mask"], given.get("g"))
    case.check("z_p", latent_prior)
    case.check("back", network(latent_prior, given["mask"], given.get("g"), reverse=True))


def stochastic_duration_predictor(case: GoldenCase, folder: Path) -> None:
    config, given = case.config, case.inputs
    # The published width is the one of the text encoder, whatever the configuration says.
    network = loaded(
        StochasticDurationPredictor(
            channels=config["in_channels"],
            hidden_channels=config["in_channels"],
            kernel_size=config["kernel_size"],
            dropout=config["p_dropout"],
            n_couplings=config["n_flows"],
            speaker_channels=config.get("gin_channels", 0),
        ),
        case,
        "sdp",
    )
    torch.manual_seed(config["noise_seed"])
    case.check("nll", network(given["x"], given["mask"], given["w"], given.get("g")))
    case.check("logw_noise0", network.sample(given["x"], given["mask"], given.get("g"), noise_scale=0.0))


def duration_predictor(case: GoldenCase, folder: Path) -> None:
    config = case.config
    network = loaded(
        DurationPredictor(
            channels=config["in_channels"],
            filter_channels=config["filter_channels"],
            kernel_size=config["kernel_size"],
            dropout=config.get("p_dropout", 0.5),
            speaker_channels=config.get("gin_channels", 0),
        ),
        case,
        "dp",
    )
    case.check("logw", network(case.inputs["x"], case.inputs["mask"], case.inputs.get("g")))


def text_encoder(case: GoldenCase, folder: Path) -> None:
    config, given, bert = case.config, case.inputs, bert_features(case)
    network = loaded(
        TextEncoder(
            ModelConfig(
                n_symbols=config["n_vocab"],
                n_tones=config["n_tones"],
                n_languages=config["n_languages"],
                inter_channels=config["out_channels"],
                hidden_channels=config["hidden_channels"],
                filter_channels=config["filter_channels"],
                n_heads=config["n_heads"],
                n_layers=config["n_layers"],
                kernel_size=config["kernel_size"],
                bert_channels={language: each.shape[1] for language, each in bert.items()},
                **speakers(config),
            )
        ),
        case,
        "enc_p",
    )
    encoding = network(given["x"], given["x_lengths"], given["tone"], given["language"], bert, given.get("g"))
    case.check("x", encoding.hidden)
    case.check("m_p", encoding.prior_mean)
    case.check("logs_p", encoding.prior_log_std)
    case.check("mask", encoding.phone_mask)


def posterior_encoder(case: GoldenCase, folder: Path) -> None:
    config, given = case.config, case.inputs
    network = loaded(
        PosteriorEncoder(
            ModelConfig(
                spectrogram_channels=config["in_channels"],
                inter_channels=config["out_channels"],
                hidden_channels=config["hidden_channels"],
                posterior_layers=config["n_layers"],
                posterior_kernel_size=config["kernel_size"],
                posterior_dilation_rate=config["dilation_rate"],
                **speakers(config),
            )
        ),
        case,
        "enc_q",
    )
    torch.manual_seed(config["noise_seed"])
    encoding = network(given["spec"], given["spec_lengths"], given.get("g"))
    case.check("z", encoding.latent)
    case.check("m_q", encoding.mean)
    case.check("logs_q", encoding.log_std)
    case.check("mask", encoding.frame_mask)


def hifigan(case: GoldenCase, folder: Path) -> None:
    config, given = case.config, case.inputs
    network = loaded(
        HifiGanDecoder(
            ModelConfig(
                inter_channels=config["initial_channel"],
                resblock=config["resblock"],
                resblock_kernel_sizes=tuple(config["resblock_kernel_sizes"]),
                resblock_dilation_sizes=tuple(map(tuple, config["resblock_dilation_sizes"])),
                upsample_rates=tuple(config["upsample_rates"]),
                upsample_initial_channels=config["upsample_initial_channel"],
                upsample_kernel_sizes=tuple(config["upsample_kernel_sizes"]),
                hop_samples=math.prod(config["upsample_rates"]),
                **speakers(config),
            )
        ),
        case,
        "dec",
    )
    case.check("wav", network(given["z"], given.get("g")))
    network.remove_weight_norm()
    assert not any("parametrizations" in key for key in network.state_dict())
    case.check("wav", network(given["z"], given.get("g")))


def reference_encoder(case: GoldenCase, folder: Path) -> None:
    network = loaded(ReferenceEncoder(case.config["spec_channels"], case.config["gin_channels"]), case, "ref_enc")
    case.check("g", network(case.inputs["spec"]))


def synthesizer(case: GoldenCase, folder: Path) -> None:
    config, batch = case.config, synthesizer_batch(case)
    n_tones, n_languages = (case.state[f"enc_p.{name}.weight"].shape[0] for name in ("tone_emb", "language_emb"))
    sizes = PublishedSizes(
        n_speakers=config["n_speakers"],
        spectrogram_channels=config["spec_channels"],
        hop_samples=math.prod(config["upsample_rates"]),
        segment_frames=config["segment_size"],
        n_symbols=config["n_vocab"],
        n_tones=n_tones,
        n_languages=n_languages,
    )
    network = loaded(Synthesizer(published_model_config(config, sizes)), case)
    torch.manual_seed(config["noise_seed"])
    output = network(batch, alignment_noise=config.get("mas_noise_scale_initial", REFERENCE_ALIGNMENT_NOISE))
    case.check("wav", output.waveform_segment, WAVEFORM_TOLERANCE)
    case.check("ids_slice", output.segment_starts, tolerance=0.0)
    case.check("attn", masks.durations_to_path(output.durations, output.latent.shape[2]).unsqueeze(1), tolerance=0.0)
    for name, actual in {
        "l_length": output.duration_loss,
        "z": output.latent,
        "z_p": output.latent_prior,
        "m_p": output.prior_mean,
        "logs_p": output.prior_log_std,
        "m_q": output.posterior_mean,
        "logs_q": output.posterior_log_std,
        "hidden_x": output.text_hidden,
        "logw": output.log_durations,
        "logw_target": output.log_durations_target,
    }.items():
        case.check(name, actual)
    synthesizer_speech(case, network, batch)


def synthesizer_speech(case: GoldenCase, network: Synthesizer, batch: SynthesizerInputs) -> None:
    options = case.config["infer"]
    torch.manual_seed(case.config["noise_seed"])
    output = network.infer(
        batch.phone_ids,
        batch.phone_lengths,
        batch.tone_ids,
        batch.language_ids,
        batch.bert,
        batch.speaker_ids,
        noise_scale=options["noise_scale"],
        duration_noise_scale=options["noise_scale_w"],
        sdp_ratio=options["sdp_ratio"],
        length_scale=options["length_scale"],
        reference_spectrogram=batch.spectrogram,
    )
    case.check("infer_wav", output.waveform, WAVEFORM_TOLERANCE)
    case.check(
        "infer_attn", masks.durations_to_path(output.durations, output.latent.shape[2]).unsqueeze(1), tolerance=0.0
    )
    case.check("infer_mask", output.frame_mask, tolerance=0.0)
    case.check("infer_z", output.latent)


def synthesizer_batch(case: GoldenCase) -> SynthesizerInputs:
    given = case.inputs
    return SynthesizerInputs(
        phone_ids=given["x"],
        phone_lengths=given["x_lengths"],
        tone_ids=given["tone"],
        language_ids=given["language"],
        bert=bert_features(case),
        spectrogram=given["spec"],
        spectrogram_lengths=given["spec_lengths"],
        speaker_ids=given.get("sid"),
    )


def monotonic_alignment(case: GoldenCase, folder: Path) -> None:
    scores, mask = case.inputs["neg_cent"], case.inputs["mask"].long()
    durations = search_durations(scores, mask[:, :, 0].sum(1), mask[:, 0].sum(1))
    case.check("path", masks.durations_to_path(durations, scores.shape[1]), tolerance=0.0)


def spline(case: GoldenCase, folder: Path) -> None:
    given, bound = case.inputs, case.config["tail_bound"]
    assert case.config["tails"] == "linear"
    shape = (given["widths"], given["heights"], given["derivatives"])
    outputs, log_derivative = rational_quadratic_spline(given["x"], *shape, bound=bound)
    case.check("y", outputs)
    case.check("logabsdet", log_derivative)
    back, inverse_log_derivative = rational_quadratic_spline(outputs, *shape, bound=bound, inverse=True)
    case.check("x_back", back)
    case.check("inverse_logabsdet", inverse_log_derivative)


def multi_period_discriminator(case: GoldenCase, folder: Path) -> None:
    state = case.state or filled_state(case.config["fill"], case.config["keys"])
    widths = {key: len(tensor) for key, tensor in state.items() if key.endswith(".bias")}
    use_scale = state["discriminators.0.convs.0.weight_v"].dim() == 3
    channels = widths[f"discriminators.{int(use_scale)}.convs.0.bias"]
    network = MultiPeriodDiscriminator(
        DiscriminatorConfig(
            periods=tuple(case.config["periods"]),
            use_scale=use_scale,
            channels=channels,
            max_channels=max(widths.values()),
        )
    )
    load_published(network, state, kind="discriminator")
    pair = network(case.inputs["y"], case.inputs["y_hat"])
    for index, (real, generated) in enumerate(zip(pair.real, pair.generated, strict=True)):
        case.check(f"real{index}", real.logits)
        case.check(f"fake{index}", generated.logits)
        for layer, feature_map in enumerate(real.feature_maps):
            case.check(f"fmap_mean{index}_{layer}", feature_map.mean())


def filled_state(rule: str, keys: dict[str, list[int]]) -> dict[str, Tensor]:
    """Weights that a case describes instead of holding them, by the numbers in its rule."""
    found = re.search(r"sin\(([\d.]+) \* n \+ i\) \* ([\d.]+) .* plus ([\d.]+) where the key ends in _g", rule)
    assert found, f"unknown rule: {rule}"
    rate, scale, gain = map(float, found.groups())
    state = {}
    for index, key in enumerate(sorted(keys)):
        flat = np.sin(rate * np.arange(math.prod(keys[key]), dtype=np.float64) + index) * scale
        state[key] = torch.from_numpy(
            (flat + (gain if key.endswith("_g") else 0.0)).astype(np.float32).reshape(keys[key])
        )
    return state


COMPARISONS: dict[str, Comparison] = {
    "attention": attention,
    "ffn": feed_forward,
    "encoder": encoder,
    "decoder": decoder,
    "layer_norm": layer_norm,
    "commons": commons,
    "fused_gate": fused_gate,
    "losses": losses,
    "mel": mel,
    "duration_discriminator": duration_discriminator,
    "transformer_flow": transformer_flow,
    "residual_flow": residual_flow,
    "stochastic_duration_predictor": stochastic_duration_predictor,
    "duration_predictor": duration_predictor,
    "text_encoder": text_encoder,
    "posterior_encoder": posterior_encoder,
    "hifigan_generator": hifigan,
    "reference_encoder": reference_encoder,
    "synthesizer": synthesizer,
    "monotonic_alignment": monotonic_alignment,
    "rational_quadratic_spline": spline,
    "multi_period_discriminator": multi_period_discriminator,
}
