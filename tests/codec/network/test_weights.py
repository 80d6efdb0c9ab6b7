"""Model folders: saving and loading, damage, and what the fingerprint depends on."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

from codec.config import CodecConfig
from codec.errors import ModelError
from codec.model_folder import find_by_fingerprint, find_model, read_description
from codec.network.model import Codec
from codec.network.weights import fingerprint, load_codec, save_codec
from tests.conftest import LADDER, LAPPED, make_codec, sound


def test_a_model_is_the_same_after_saving_and_loading(tmp_path: Path) -> None:
    codec = make_codec(LADDER, tmp_path / "a")
    save_codec(codec, tmp_path / "b", name="again", card="# A card\n")
    again = load_codec(tmp_path / "b")
    assert again.config == codec.config
    assert again.fingerprint == codec.fingerprint
    audio = torch.from_numpy(sound(500))[None]
    assert torch.equal(again.encode(audio), codec.encode(audio))
    codes = codec.encode(audio)
    assert torch.equal(again.decode(codes), codec.decode(codes))
    assert (tmp_path / "b" / "card.md").read_text() == "# A card\n"


def test_full_precision_is_kept_on_request(tmp_path: Path) -> None:
    codec = Codec(LAPPED)
    save_codec(codec, tmp_path, name="full", half=False)
    for name, tensor in load_codec(tmp_path).state_dict().items():
        assert torch.equal(tensor, codec.state_dict()[name])


def test_the_fingerprint_depends_on_encoder_and_quantizer_and_not_on_the_decoder(
    tmp_path: Path,
) -> None:
    """A decoder that was trained further decodes older streams; other changes need new streams."""
    codec = make_codec(LAPPED, tmp_path / "a")
    original = codec.fingerprint
    prints = []
    for part in (codec.decoder, codec.encoder, codec.quantizer):
        with torch.no_grad():
            next(part.parameters()).mul_(1.5)
        save_codec(codec, tmp_path / "b", name="changed")
        prints.append(load_codec(tmp_path / "b").fingerprint)
    assert prints[0] == original
    assert len({*prints}) == 3


def test_the_packaged_model_keeps_its_fingerprint() -> None:
    """All streams made with it contain this fingerprint."""
    description = json.loads((find_model("speech24k") / "config.json").read_text())
    assert description["fingerprint"] == "40c9cfacd3fc649cac06224e73008666"
    assert load_codec("speech24k").fingerprint.hex() == description["fingerprint"]


def test_settings_added_later_change_the_fingerprint_only_when_used() -> None:
    tensors: dict[str, torch.Tensor] = {}
    configs = [LAPPED, dataclasses.replace(LAPPED, bottleneck="vq", recurrent="none")]
    configs += [dataclasses.replace(LAPPED, recurrent=kind) for kind in ("gru", "lstm")]
    configs += [dataclasses.replace(LAPPED, bottleneck=kind) for kind in ("fsq", "vae")]
    prints = [fingerprint(config, 20, tensors) for config in configs]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 5


@pytest.mark.parametrize("name", ["fsq", "gru", "lstm", "vae"])
def test_every_kind_of_model_is_the_same_after_saving_and_loading(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    codec: Codec = request.getfixturevalue(name)
    save_codec(codec, tmp_path, name="again")
    again = load_codec(tmp_path)
    assert (again.config, again.fingerprint) == (codec.config, codec.fingerprint)
    audio = torch.from_numpy(sound(500))[None]
    embedding = codec.embed(audio)
    assert torch.equal(again.embed(audio), embedding)
    assert torch.equal(again.synthesize(embedding), codec.synthesize(embedding))


def test_damaged_and_mismatched_folders_are_refused(model_folder: Path, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        shutil.copytree(model_folder, tmp_path / name)
        return tmp_path / name

    with pytest.raises(ModelError, match=r"give a folder with config\.json .*speech24k"):
        load_codec(tmp_path / "none")

    folder = copy("flipped")
    data = bytearray((folder / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match="is damaged or from another model"):
        load_codec(folder)

    folder = copy("without")
    (folder / "weights.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot read"):
        load_codec(folder)

    for name, text, message in (
        ("text", "no json", "not a model description"),
        ("list", "[]", "not a model description"),
        ("bare", "{}", "not a model description"),
    ):
        folder = copy(name)
        (folder / "config.json").write_text(text)
        with pytest.raises(ModelError, match=message):
            load_codec(folder)

    description = json.loads((model_folder / "config.json").read_text())
    for name, change, message in (
        ("late", {"delay": 21}, "gives a delay of 21 samples, its layers have 20"),
        ("undelayed", {"delay": "x"}, "delay is 'x': it is a whole number of samples"),
        ("newer", {"format": 4}, "has format 4, this version reads 2 and 3: upgrade"),
        ("older", {"format": 1}, "has format 1, this version reads 2 and 3: train it again"),
        ("odd", {"format": "x"}, "has format x, this version reads 2 and 3: upgrade"),
        ("rounded", {"format": 3}, r"does not fit its config\.json: .* float16 .* of int8"),
        ("wider", {"codec": description["codec"] | {"latent_dim": 11}}, "does not fit"),
        ("wrong", {"codec": description["codec"] | {"latent_dim": "x"}}, "whole number"),
    ):
        folder = copy(name)
        (folder / "config.json").write_text(json.dumps(description | change))
        with pytest.raises(ModelError, match=message):
            load_codec(folder)


def test_the_folder_states_the_delay_of_its_model(tmp_path: Path) -> None:
    """For readers that do not build the network."""
    codec = make_codec(dataclasses.replace(LAPPED, lookahead=5), tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    assert values["delay"] == read_description(tmp_path)["delay"] == codec.delay == 25
    assert "delay" not in values["codec"]


@pytest.mark.parametrize(("config", "delay"), [(LAPPED, 20), (LADDER, 7)])
def test_a_folder_of_an_earlier_version_still_loads(
    config: CodecConfig, delay: int, tmp_path: Path
) -> None:
    """It has the delay in the table of the codec."""
    codec = make_codec(config, tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    del values["delay"], values["codec"]["lookahead"]
    values["codec"]["delay"] = delay
    path.write_text(json.dumps(values))
    assert read_description(tmp_path)["delay"] == delay
    again = load_codec(tmp_path)
    assert (again.config, again.fingerprint, again.delay) == (config, codec.fingerprint, delay)


def test_a_folder_without_any_delay_is_refused(model_folder: Path, tmp_path: Path) -> None:
    values = json.loads((model_folder / "config.json").read_text())
    del values["delay"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ModelError, match="is not a model description: delay is None"):
        read_description(tmp_path)


def test_fingerprints_are_those_of_earlier_versions() -> None:
    """Of configs that had the key ``delay``: streams made then still name the same model."""
    assert fingerprint(LAPPED, 20, {}).hex() == "13b6e7ac46516ae82a10d974eed71055"
    assert fingerprint(LADDER, 7, {}).hex() == "7a023a86c81ac7a90459d52241c5df20"


def test_a_stream_finds_its_packaged_model() -> None:
    packaged = find_model("speech24k")
    assert find_by_fingerprint(load_codec().fingerprint) == packaged
    assert find_by_fingerprint(bytes(16)) is None
