"""Graphs of models: where their weights are, what is exported, what has none."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from codec.engines import base
from codec.engines.onnx import OnnxEngine
from codec.errors import ModelError
from codec.model_folder import find_model, has_graphs, stored_tensors
from codec.network.graphs import export_model, write_graphs
from codec.network.model import Codec
from codec.network.weights import save_codec
from tests.conftest import REPOSITORY, sound
from tests.engines import folder_with_graphs


def test_weights_are_stored_once_and_graphs_refer_to_them() -> None:
    folder = find_model("speech24k")
    data = (folder / "weights.safetensors").read_bytes()
    places = {(place.offset, place.length): name for name, place in stored_tensors(data).items()}
    named = set()
    for file in ("encoder.onnx", "decoder.onnx"):
        assert (folder / file).stat().st_size < 1e6
        graph = onnx.load(folder / file, load_external_data=False).graph
        for tensor in graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                entries = {entry.key: entry.value for entry in tensor.external_data}
                assert entries["location"] == "weights.safetensors"
                named.add(places[int(entries["offset"]), int(entries["length"])])
    # Discriminators, pitch heads and the like may be left out; here everything is used.
    assert named == set(places.values())


def test_the_package_is_small() -> None:
    """A wheel compresses further; the limit is 25 MB."""
    files = (REPOSITORY / "codec").rglob("*")
    size = sum(file.stat().st_size for file in files if file.is_file() and file.suffix != ".pyc")
    assert size < 25e6


@pytest.mark.parametrize("name", ["lapped", "fine", "stereo"])
def test_test_vectors_are_met(name: str, request: pytest.FixtureRequest) -> None:
    check_vectors(folder_with_graphs(request.getfixturevalue(name)))


def test_test_vectors_of_the_packaged_model_are_met() -> None:
    check_vectors(find_model("speech24k"))


def check_vectors(folder: Path) -> None:
    engine = OnnxEngine(folder)
    vectors = json.loads((folder / "test_vectors.json").read_text())
    audio = np.atleast_2d(np.float32(vectors["audio_times_32768"])) / np.float32(32768)
    assert len(audio) == engine.spec.channels_coded_together
    codes = base.encode(engine, audio)
    assert (codes[0] == vectors["codes"]).mean() >= 0.99
    initial = engine.init_decoder(len(audio))
    decoded, state = engine.decode_step(np.array([vectors["codes"]]), initial)
    heard = np.concatenate((decoded, engine.flush_step(state)), axis=1)
    np.testing.assert_allclose(heard, np.atleast_2d(vectors["decoded"]), atol=1e-3)
    assert np.abs(vectors["decoded"]).max() > 1e-3


def test_a_model_is_exported_to_another_folder_and_in_place(
    lapped: Codec, model_folder: Path, tmp_path: Path
) -> None:
    export_model(model_folder, tmp_path / "other")
    other = OnnxEngine(tmp_path / "other")
    assert other.spec.fingerprint == lapped.fingerprint
    assert not has_graphs(model_folder)
    (tmp_path / "other" / "decoder.onnx").unlink()
    export_model(tmp_path / "other", tmp_path / "other")
    again = OnnxEngine(tmp_path / "other")
    audio = sound(500)
    assert np.array_equal(
        base.decode(again, base.encode(again, audio), 500),
        base.decode(other, base.encode(other, audio), 500),
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [("vae", "continuous latents"), ("gru", "recurrent layers"), ("lstm", "lstm")],
)
def test_models_without_graphs_say_why(
    name: str, reason: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    save_codec(request.getfixturevalue(name), tmp_path, name=name)
    with pytest.raises(ModelError, match=f"{reason}.*: use it with PyTorch"):
        write_graphs(tmp_path)
    with pytest.raises(ModelError, match=reason):
        export_model(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_saving_another_model_removes_the_graphs_of_the_one_before(
    lapped: Codec, ladder: Codec, tmp_path: Path
) -> None:
    save_codec(lapped, tmp_path, name="first")
    write_graphs(tmp_path)
    assert has_graphs(tmp_path)
    save_codec(ladder, tmp_path, name="second")
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "weights.safetensors"}


def test_weights_in_full_precision_are_used_as_they_are(lapped: Codec, tmp_path: Path) -> None:
    save_codec(lapped, tmp_path, name="full", half=False)
    write_graphs(tmp_path)
    audio = sound(2_000)
    codes = base.encode(OnnxEngine(tmp_path), audio)
    assert (codes == base.encode(OnnxEngine(folder_with_graphs(lapped)), audio)).mean() > 0.999


def test_a_full_disk_leaves_the_model_that_was_to_be_replaced(
    lapped: Codec, ladder: Codec, tmp_path: Path
) -> None:
    def files(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    source, target = tmp_path / "source", tmp_path / "target"
    save_codec(ladder, source, name="new")
    save_codec(lapped, target, name="old")
    (target / "graphs.json").write_bytes(b"of the old model")
    before = files(target)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    replacements: tuple[Callable[[], object], ...] = (
        lambda: export_model(source, target),
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
