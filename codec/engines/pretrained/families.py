"""EnCodec, DAC and Mimi, as the package ``transformers`` loads them, and SNAC of the package
``snac``, behind the `Engine` interface.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from codec.codes import Codebook
from codec.engines.pretrained.causal import CausalEngine
from codec.engines.pretrained.chunked import ChunkedEngine, chunk_shape
from codec.engines.pretrained.engine import Family, PretrainedEngine, Shape
from codec.engines.pretrained.windowed import WindowedEngine
from codec.errors import ModelError, optional_packages
from codec.format.container import MAX_CODEBOOKS

ENCODEC_48KHZ: dict[str, Any] = {
    "target_bandwidths": [3.0, 6.0, 12.0, 24.0],
    "sampling_rate": 48_000,
    "audio_channels": 2,
    "normalize": True,
    "chunk_length_s": 1.0,
    "overlap": 0.01,
    "norm_type": "time_group_norm",
    "use_causal_conv": False,
}
"""Configuration of the published model of EnCodec at 48 kHz, where it is not the default."""


def _transformers(prefix: str) -> tuple[Any, Any]:
    with optional_packages(f"a model of {prefix}", "transformers"):
        import transformers
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return getattr(transformers, f"{prefix}Config"), getattr(transformers, f"{prefix}Model")


def _alike(config: Any, count: int) -> tuple[Codebook, ...]:
    """Codebooks with one code per frame each."""
    return (Codebook(int(config.codebook_size)),) * count


def _encodec_classes() -> tuple[Any, Any]:
    return _transformers("Encodec")


def _encodec_engine(config: Any) -> type[PretrainedEngine]:
    return ChunkedEngine if config.chunk_length_s else CausalEngine


def _encodec_shape(config: Any) -> Shape:
    if config.chunk_length_s:
        return chunk_shape(config)
    return Shape(_alike(config, config.num_quantizers), config.hop_length)


def _encode_encodec(model: Any, audio: Tensor, num_codebooks: int) -> Tensor:
    """Not by ``model.encode``, which takes only the bitrates that the model was trained at."""
    quantizer = model.quantizer
    bandwidth = num_codebooks * np.log2(quantizer.codebook_size) * quantizer.frame_rate / 1000
    codes: Tensor = quantizer.encode(model.encoder(audio), bandwidth * (1 + 1e-9))
    return codes.transpose(0, 1)


def _decode_encodec(model: Any, codes: Tensor, first_frame: int) -> Tensor:
    audio: Tensor = model.decode(codes[None], [None]).audio_values
    return audio


def _refuse_encodec(config: Any) -> str:
    if not (config.chunk_length_s or config.normalize or config.audio_channels != 1):
        return _refuse_lookahead(config)
    chunked = config.chunk_length_s and config.normalize and config.audio_channels == 2
    if not (
        chunked
        and config.overlap is not None
        and config.chunk_length % config.hop_length == 0
        and chunk_shape(config).num_codes <= MAX_CODEBOOKS
    ):
        return (
            "its chunks, scales or channels are not those of a published model: give "
            "facebook/encodec_24khz or facebook/encodec_48khz"
        )
    return ""


def _refuse_lookahead(config: Any) -> str:
    causal = (
        config.use_causal_conv and config.trim_right_ratio == 1.0 and config.audio_channels == 1
    )
    normal = getattr(config, "norm_type", "weight_norm") == "weight_norm"
    return (
        "" if causal and normal else "it is not causal and mono: give a published model at 24 kHz"
    )


def _dac_classes() -> tuple[Any, Any]:
    return _transformers("Dac")


def _windowed(config: Any) -> type[PretrainedEngine]:
    return WindowedEngine


def _dac_shape(config: Any) -> Shape:
    return Shape(_alike(config, config.n_codebooks), config.hop_length)


def _encode_dac(model: Any, audio: Tensor, num_codebooks: int) -> Tensor:
    codes: Tensor = model.encode(audio, n_quantizers=num_codebooks).audio_codes
    return codes


def _decode_codes(model: Any, codes: Tensor, first_frame: int) -> Tensor:
    audio: Tensor = model.decode(audio_codes=codes).audio_values
    return audio


def _accept(config: Any) -> str:
    return ""


def _mimi_classes() -> tuple[Any, Any]:
    return _transformers("Mimi")


def _causal(config: Any) -> type[PretrainedEngine]:
    return CausalEngine


def _mimi_shape(config: Any) -> Shape:
    hop_length = round(config.sampling_rate / config.frame_rate)
    return Shape(_alike(config, config.num_quantizers), hop_length)


def _encode_mimi(model: Any, audio: Tensor, num_codebooks: int) -> Tensor:
    codes: Tensor = model.encode(audio, num_quantizers=num_codebooks).audio_codes
    return codes


def _snac_classes() -> tuple[Any, Any]:
    with optional_packages("SNAC", "snac"):
        from codec.engines.pretrained.snac import SnacConfig, SnacModel
    return SnacConfig, SnacModel


def _snac_shape(config: Any) -> Shape:
    shape: Shape = config.shape
    return shape


def _encode_snac(model: Any, audio: Tensor, num_codebooks: int) -> Tensor:
    codes: Tensor = model.encode(audio)
    return codes


def _decode_snac(model: Any, codes: Tensor, first_frame: int) -> Tensor:
    audio: Tensor = model.decode(codes, first_frame)
    return audio


def _refuse_snac(config: Any) -> str:
    if (number := config.shape.num_codes) > MAX_CODEBOOKS:
        return f"a frame has {number} codes, {MAX_CODEBOOKS} are possible: give a published model"
    return ""


_ALL = (
    # arXiv:2210.13438
    Family(
        name="encodec",
        classes=_encodec_classes,
        engine=_encodec_engine,
        shape=_encodec_shape,
        encode=_encode_encodec,
        decode=_decode_encodec,
        refuse=_refuse_encodec,
    ),
    # arXiv:2306.06546
    Family(
        name="dac",
        classes=_dac_classes,
        engine=_windowed,
        shape=_dac_shape,
        encode=_encode_dac,
        decode=_decode_codes,
        refuse=_accept,
        published={
            "downsampling_ratios": [2, 4, 5, 8],
            "n_codebooks": 32,
            "sampling_rate": 24_000,
        },
    ),
    # arXiv:2410.00037
    Family(
        name="mimi",
        classes=_mimi_classes,
        engine=_causal,
        shape=_mimi_shape,
        encode=_encode_mimi,
        decode=_decode_codes,
        refuse=_refuse_lookahead,
    ),
    # arXiv:2410.14411
    Family(
        name="snac",
        classes=_snac_classes,
        engine=_windowed,
        shape=_snac_shape,
        encode=_encode_snac,
        decode=_decode_snac,
        refuse=_refuse_snac,
        weights=("model.safetensors", "pytorch_model.bin"),
    ),
)
FAMILIES = {family.name: family for family in _ALL}
"""The families of models, by name."""


def load_pretrained(family: str, source: str | Path) -> PretrainedEngine:
    """Load a model of another project.

    Args:
        family: one of `FAMILIES`.
        source: folder with ``config.json`` and the weights, or a name on the Hugging Face hub, from
            which the model is downloaded once.

    Raises:
        ModelError: there is no such model, or it is of another family.
        MissingPackageError: the package of its project is not installed.

    Example:
        >>> random_model("encodec", num_filters=2, hidden_size=8).save_pretrained("my-encodec")
        >>> load_pretrained("encodec", "my-encodec").spec.name
        'encodec=my-encodec'
    """
    config_class, model_class = FAMILIES[family].classes()
    folder = Path(source)
    local = folder.is_dir()
    weights = FAMILIES[family].find_weights(folder)
    if local and not ((folder / "config.json").is_file() and weights):
        names = " or ".join(name.replace("*", "") for name in FAMILIES[family].weights)
        raise ModelError(
            f"{source} holds no {family} model: give a folder with its config.json and {names}"
        )
    if not local and str(source).count("/") != 1:
        raise ModelError(
            f"{source} is neither a folder nor a name on the hub: give --model {family}=FOLDER or "
            f"--model {family}=user/name"
        )
    try:
        found, _ = config_class.get_config_dict(source, local_files_only=local)
        if (kind := found.get("model_type")) != family:
            raise ModelError(f"{source} holds a model of type {kind}, not {family}")
        config = config_class.from_dict(found)
        model = model_class.from_pretrained(
            source, config=config, local_files_only=local, use_safetensors=True
        )
    except ModelError:
        raise
    except Exception as error:  # of many kinds: network, hub, configuration, weights
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ModelError(f"{source} cannot be loaded as a {family} model: {reason}") from error
    name = f"{family}={folder.resolve().name if local else source}"
    return make_engine(family, model, name)


def random_engine(family: str, **config: Any) -> PretrainedEngine:
    """The engine of a `random_model`.

    Example:
        >>> spec = random_engine("dac", encoder_hidden_size=2, decoder_hidden_size=16).spec
        >>> spec.num_codebooks, spec.hop_length
        (32, 320)
    """
    return make_engine(family, random_model(family, **config), family)


def random_model(family: str, **config: Any) -> Any:
    """A model of the published shape with random weights: for tests, and to measure speed.

    Args:
        family: one of `FAMILIES`.
        **config: settings that replace those of the published configuration.

    Returns:
        The model, as its project makes it; SNAC's as `codec.engines.pretrained.snac.SnacModel`.

    Raises:
        MissingPackageError: the package of its project is not installed.

    Example:
        >>> random_model("encodec", num_filters=2, hidden_size=8).save_pretrained("my-encodec")
        >>> sorted(path.name for path in Path("my-encodec").iterdir())
        ['config.json', 'model.safetensors']
    """
    config_class, model_class = FAMILIES[family].classes()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(config_class(**(FAMILIES[family].published | config)))
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name.endswith(("embed", "embed_sum")):  # they are initialised to zero
                    buffer.normal_()
            if family in ("encodec", "snac"):  # all frames of the others differ as they are
                _standardize_latents(model, 40 * FAMILIES[family].shape(model.config).hop_length)
    return model


def _standardize_latents(model: Any, num_samples: int) -> None:
    """Latents of mean 0 and variance 1, as codebooks are: else frames would have the same codes."""
    first, *_, last = (each for each in model.encoder.modules() if isinstance(each, nn.Conv1d))
    latents: list[Tensor] = []
    hook = last.register_forward_hook(lambda layer, inputs, output: latents.append(output))
    model.encoder(0.1 * torch.randn(1, first.in_channels, num_samples))
    hook.remove()
    deviation, mean = torch.std_mean(latents[0], dim=(0, 2))
    weight = last.weight / deviation[:, None, None]
    if parametrize.is_parametrized(last):
        last.weight = weight
    else:
        last.weight.copy_(weight)
    if last.bias is not None:
        last.bias.copy_((last.bias - mean) / deviation)


def make_engine(family: str, model: Any, name: str) -> PretrainedEngine:
    """The engine of a loaded model.

    Args:
        family: one of `FAMILIES`.
        model: model as `random_model` makes it; the engine takes it over and changes it.
        name: name of the model, for people.

    Raises:
        ModelError: the model cannot be used; the message says why.
    """
    if reason := FAMILIES[family].refuse(model.config):
        raise ModelError(f"{name} cannot be used: {reason}")
    return FAMILIES[family].engine(model.config)(FAMILIES[family], model, name)
