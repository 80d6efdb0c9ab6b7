"""Graphs of models for other programs compute what the network does, and need nothing else."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codec.errors import ModelError
from codec.network.graphs import export_graphs
from codec.network.model import Codec
from codec.network.weights import load_codec, save_codec
from tests.conftest import sound
from tests.engines import saved_folder

onnxruntime = pytest.importorskip("onnxruntime")


class Graphs:
    """The graphs in a folder, as docs/engines.md says that they are used."""

    def __init__(self, folder: Path) -> None:
        self.facts = json.loads((folder / "graphs.json").read_text())
        self.sessions = {
            side: onnxruntime.InferenceSession(folder / f"{side}.onnx")
            for side in ("encoder", "decoder")
        }

    def start(self, side: str, batch: int = 1) -> list[np.ndarray]:
        return [
            np.full((batch, *each["shape"]), each["value"], each["type"])
            for each in self.facts[side]["states"]
        ]

    def step(self, side: str, first: np.ndarray, state: list[np.ndarray]) -> list[np.ndarray]:
        """The first output, the state, and further outputs."""
        names = [each.name for each in self.sessions[side].get_inputs()]
        outputs: list[np.ndarray] = self.sessions[side].run(
            None, dict(zip(names, [first, *state], strict=True))
        )
        return outputs


@pytest.mark.parametrize("name", ["lapped", "fine", "stereo", "fsq"])
def test_graphs_compute_what_the_network_does(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Of a batch of two, in steps of other lengths than they were exported with."""
    codec: Codec = request.getfixturevalue(name)
    export_graphs(saved_folder(codec), tmp_path)
    graphs, hop, channels = Graphs(tmp_path), codec.config.hop_length, codec.config.channels
    audio = sound(30 * hop, 2 * channels).reshape(2, channels, -1)
    encoder, decoder = graphs.start("encoder", 2), graphs.start("decoder", 2)
    codes, heard = [], []
    for block in np.split(audio, [hop, 9 * hop], axis=2):
        first = block if channels > 1 else block[:, 0]
        piece, *encoder = graphs.step("encoder", np.ascontiguousarray(first), encoder)
        *encoder, errors, latent = encoder
        assert errors.shape == piece.shape and latent.shape[1] == piece.shape[2]
        codes.append(piece)
        out, *decoder = graphs.step("decoder", piece, decoder)
        heard.append(out.reshape(2, channels, -1))
    found = np.concatenate(codes, axis=2)
    expected, _ = codec.encode_step(torch.from_numpy(audio), codec.encoder.init_state(2))
    assert (found == expected.numpy()).mean() >= 0.999
    decoded, _ = codec.decode_step(torch.from_numpy(found), codec.decoder.init_state(2))
    np.testing.assert_allclose(np.concatenate(heard, axis=2), decoded, rtol=0, atol=1e-3)


def test_items_of_a_batch_may_have_different_numbers_of_codebooks(
    lapped: Codec, tmp_path: Path
) -> None:
    """A code of -1 is absent."""
    export_graphs(saved_folder(lapped), tmp_path)
    graphs = Graphs(tmp_path)
    codes = lapped.encode(torch.from_numpy(sound(400, 2))[:, None]).numpy()
    codes[1, 2:] = -1
    heard, *_ = graphs.step("decoder", codes, graphs.start("decoder", 2))
    for item, count in ((0, 4), (1, 2)):
        part = torch.from_numpy(codes[item : item + 1, :count])
        alone, _ = lapped.decode_step(part, lapped.decoder.init_state(1))
        np.testing.assert_allclose(heard[item], alone[0, 0], atol=1e-5)


@pytest.mark.parametrize("name", ["lapped", "stereo"])
def test_test_vectors_are_met(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    export_graphs(saved_folder(request.getfixturevalue(name)), tmp_path)
    check_vectors(tmp_path)


@pytest.mark.slow
def test_the_packaged_model_is_exported_with_its_card(tmp_path: Path) -> None:
    export_graphs("speech24k", tmp_path)
    check_vectors(tmp_path)
    facts = Graphs(tmp_path).facts
    assert (facts["name"], facts["delay"], facts["hop_length"]) == ("speech24k", 300, 480)
    names = {"encoder.onnx", "decoder.onnx", "graphs.json", "test_vectors.json", "card.md"}
    assert {path.name for path in tmp_path.iterdir()} == names


def check_vectors(folder: Path) -> None:
    graphs, vectors = Graphs(folder), json.loads((folder / "test_vectors.json").read_text())
    audio = np.array([vectors["audio_times_32768"]], np.float32) / np.float32(32768)
    codes, *_ = graphs.step("encoder", audio, graphs.start("encoder"))
    assert (codes[0] == vectors["codes"]).mean() >= 0.99
    count = len(graphs.facts["decoder"]["states"])
    decoded, *state = graphs.step("decoder", np.array([vectors["codes"]]), graphs.start("decoder"))
    flush = np.full((1, codes.shape[1], vectors["flush_frames"]), -1)
    rest, *_ = graphs.step("decoder", flush, state[:count])
    heard = np.concatenate((decoded, rest), axis=-1)[0]
    np.testing.assert_allclose(heard, vectors["decoded"], atol=1e-3)
    assert np.abs(vectors["decoded"]).max() > 1e-3


def test_weights_are_those_of_the_model_and_not_of_others_of_its_shape(
    lapped: Codec, tmp_path: Path
) -> None:
    changed = load_codec(saved_folder(lapped))
    with torch.no_grad():
        next(changed.encoder.parameters()).mul_(1.5)
    save_codec(changed, tmp_path / "model", name="changed", half=False)
    outputs: list[Any] = []
    for number, folder in enumerate((saved_folder(lapped), tmp_path / "model")):
        export_graphs(folder, tmp_path / f"{number}")
        graphs = Graphs(tmp_path / f"{number}")
        outputs.append(graphs.step("encoder", sound(400), graphs.start("encoder"))[-1])
    expected = changed.encode_latent(torch.from_numpy(sound(400))[None])
    np.testing.assert_allclose(outputs[1], expected, atol=1e-4)
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-2


@pytest.mark.parametrize(
    ("name", "reason"),
    [("vae", "continuous latents"), ("gru", "recurrent layers"), ("lstm", "lstm")],
)
def test_models_without_graphs_say_why(
    name: str, reason: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=f"{reason}.*: use it with PyTorch"):
        export_graphs(saved_folder(request.getfixturevalue(name)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_what_was_to_be_replaced(
    lapped: Codec, ladder: Codec, tmp_path: Path
) -> None:
    def files(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    source, target = saved_folder(ladder), tmp_path / "target"
    save_codec(lapped, target, name="old")
    (target / "graphs.json").write_bytes(b"of the old model")
    before = files(target)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    replacements: tuple[Callable[[], object], ...] = (
        lambda: export_graphs(source, target),
        lambda: save_codec(ladder, target, name="new"),
    )
    for replace in replacements:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, unlimited[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                replace()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        assert files(target) == before
