"""Models in 8 bits: what is written, who reads it, what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from codec.core.quantize import Tensors, dequantize, quantize
from codec.engines import base
from codec.engines.core import CoreEngine
from codec.engines.torch import TorchEngine
from codec.entropy.context import ContextShape
from codec.entropy.context_file import CONTEXT_FILE, save_context
from codec.errors import CodecError, ModelError
from codec.export import export_model
from codec.model_folder import count_parameters, find_model, read_description
from codec.network.model import Codec
from codec.network.weights import load_codec, save_codec
from codec.registry import default_backend, load_model
from tests.codec.entropy.oracle import random_context
from tests.conftest import sound
from tests.engines import saved_folder


@pytest.fixture(params=["lapped", "ladder", "stereo", "fsq", "fine"])
def model(request: pytest.FixtureRequest) -> Codec:
    """A model of every shape that the core computes."""
    codec: Codec = request.getfixturevalue(request.param)
    return codec


def test_a_model_in_8_bits_computes_on_the_core_what_it_did_before(
    model: Codec, tmp_path: Path
) -> None:
    """To the bit, since the core quantizes the other one when it loads it."""
    before, after = saved_folder(model), tmp_path / "small"
    export_model(before, after)
    audio = sound(50 * model.config.hop_length, 2)
    first, second = CoreEngine(before), CoreEngine(after)
    codes = base.encode(first, audio)
    assert np.array_equal(base.encode(second, audio), codes)
    heard = base.decode(second, codes, audio.shape[1])
    assert np.array_equal(base.decode(first, codes, audio.shape[1]), heard)
    assert first.spec == second.spec
    assert read_description(after)["format"] == 3
    data = (after / "weights.safetensors").read_bytes()
    assert {value.dtype.name for value in load(data).values()} == {"int8", "float32"}
    assert save(load(data)) == data


def test_pytorch_reads_a_model_in_8_bits(model: Codec, tmp_path: Path) -> None:
    before = saved_folder(model)
    export_model(before, tmp_path / "small")
    codec = load_codec(tmp_path / "small")
    assert (codec.fingerprint, codec.delay) == (model.fingerprint, model.delay)
    weights = {name: value.numpy() for name, value in load_codec(before).state_dict().items()}
    expected = dequantize(quantize(weights, model.config), model.config)
    assert all(
        np.array_equal(value.numpy(), expected[name]) for name, value in codec.state_dict().items()
    )
    num_weights = sum(value.numel() for value in codec.state_dict().values())
    assert count_parameters(tmp_path / "small") == count_parameters(before) == num_weights


@pytest.mark.parametrize("half", [False, True])
def test_a_model_keeps_its_fingerprint_while_its_codes_keep_their_meaning(
    lapped: Codec, half: bool, tmp_path: Path
) -> None:
    """However often it is saved, and in whatever precision."""
    export_model(saved_folder(lapped), tmp_path / "small")
    codec = load_codec(tmp_path / "small")
    with torch.no_grad():
        next(codec.decoder.parameters()).mul_(1.5)
    for name in ("first", "second"):
        save_codec(codec, tmp_path / name, name=name, half=half)
        codec = load_codec(tmp_path / name)
        assert codec.fingerprint == lapped.fingerprint
    export_model(tmp_path / "second", tmp_path / "third")
    assert load_model(tmp_path / "third").spec.fingerprint == lapped.fingerprint
    with torch.no_grad():
        next(codec.encoder.parameters()).mul_(1.5)
    save_codec(codec, tmp_path / "other", name="other", half=half)
    assert load_codec(tmp_path / "other").fingerprint not in (b"", lapped.fingerprint)


def test_card_and_context_model_go_along_and_those_of_another_model_go(
    lapped: Codec, ladder: Codec, tmp_path: Path
) -> None:
    rich, small = tmp_path / "rich", tmp_path / "small"
    save_codec(lapped, rich, name="rich", card="# A card\n")
    config = lapped.config
    shape = ContextShape(config.num_codebooks, config.codebook_size, 3, width=8, hidden=5)
    tensors = random_context(np.random.default_rng(0), shape, largest=5)
    save_context(rich, shape, tensors, lapped.fingerprint)
    export_model(rich, small)
    names = {"config.json", "weights.safetensors", "card.md", CONTEXT_FILE}
    assert {path.name for path in small.iterdir()} == names
    assert load_model(small).context is not None
    assert (small / "card.md").read_text() == "# A card\n"
    export_model(saved_folder(ladder), small)
    assert {path.name for path in small.iterdir()} == {"config.json", "weights.safetensors"}
    export_model(small, tmp_path / "again")
    for name in ("config.json", "weights.safetensors"):  # nothing is left to be rounded
        assert (tmp_path / "again" / name).read_bytes() == (small / name).read_bytes()


def test_the_packaged_model_is_stored_in_8_bits() -> None:
    folder = find_model("speech24k")
    assert read_description(folder)["format"] == 3
    assert isinstance(load_model().engine, CoreEngine)
    assert count_parameters("speech24k") == 6_877_486


@pytest.mark.parametrize(
    ("name", "reason"),
    [("vae", "continuous latents"), ("gru", "recurrent layers"), ("lstm", "lstm")],
)
def test_what_the_core_does_not_compute_is_run_by_pytorch_and_not_exported(
    name: str, reason: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = saved_folder(request.getfixturevalue(name))
    assert default_backend(folder) == "torch"
    assert isinstance(load_model(folder).engine, TorchEngine)
    with pytest.raises(ModelError, match=f"{reason}.*; PyTorch runs it as it is"):
        export_model(folder, tmp_path / "out")
    with pytest.raises(ModelError, match=f"{reason}.*: use "):
        CoreEngine(folder)
    assert not (tmp_path / "out").exists()


def test_a_model_is_not_replaced_by_itself_in_8_bits(model_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    before = (folder / "weights.safetensors").read_bytes()
    (tmp_path / "link").symlink_to(folder)
    for place in (folder, tmp_path / "link"):
        with pytest.raises(CodecError, match="is the model itself: give another folder"):
            export_model(folder, place)
    assert (folder / "weights.safetensors").read_bytes() == before


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tensors], None]:
    def apply(tensors: Tensors) -> None:
        tensors[name] = np.ascontiguousarray(change(tensors[name].copy()))

    return apply


def filled(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def fill(array: np.ndarray) -> np.ndarray:
        array.flat[-1] = value
        return array

    return fill


PROJECT, UNIT = "encoder.project", "decoder.body.layers.1"


@pytest.mark.parametrize(
    "damage",
    [
        lambda tensors: tensors.pop(f"{PROJECT}.scale"),
        lambda tensors: tensors.pop(f"{PROJECT}.bias"),
        lambda tensors: tensors.pop(f"{UNIT}.norm.weight"),
        lambda tensors: tensors.clear(),
        changed(f"{PROJECT}.weight", lambda each: each.astype(np.float32)),
        changed(f"{PROJECT}.weight", lambda each: each[:-1]),
        changed(f"{PROJECT}.scale", lambda each: each.astype(np.float16)),
        changed(f"{PROJECT}.scale", lambda each: each[:, :0]),
        changed(f"{PROJECT}.bias", lambda each: np.concatenate([each, each])),
        changed(f"{UNIT}.norm.weight", lambda each: each.astype(np.int8)),
        changed(f"{PROJECT}.scale", filled(np.nan)),
        changed(f"{PROJECT}.scale", filled(np.inf)),
        changed(f"{PROJECT}.bias", filled(-np.inf)),
        changed("quantizer.stages.0.codebook", filled(np.nan)),
        changed("quantizer.stages.0.codebook", np.transpose),
        changed("quantizer.stages.0.project.weight", np.ravel),
    ],
)
def test_a_file_with_other_tensors_is_refused_in_one_line(
    damage: Callable[[Tensors], object], lapped: Codec, tmp_path: Path
) -> None:
    export_model(saved_folder(lapped), tmp_path)
    path, config = tmp_path / "weights.safetensors", tmp_path / "config.json"
    tensors = load(path.read_bytes())
    damage(tensors)
    path.write_bytes(save(tensors))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    config.write_text(json.dumps(json.loads(config.read_text()) | {"weights_sha256": digest}))
    for use in (load_model, load_codec):
        with pytest.raises(ModelError, match=r"fit|not all values of") as caught:
            use(tmp_path)
        assert "\n" not in str(caught.value)
