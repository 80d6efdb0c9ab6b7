"""Model folders from strangers: whatever is in their files, one line says so, or they work."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from codec.config import CodecConfig
from codec.entropy.context import ContextShape
from codec.entropy.context_file import CONTEXT_FILE, save_context
from codec.errors import CodecError, ModelError
from codec.export import export_model
from codec.hub import hub_files
from codec.model_folder import find_model, read_description, stored_tensors
from codec.network.model import Codec
from codec.network.weights import load_codec
from codec.registry import load_model
from codec.session.decoder import StreamDecoder
from codec.session.encoder import StreamEncoder
from tests.codec.entropy.oracle import random_context
from tests.conftest import sound
from tests.engines import saved_folder

WRONG: tuple[Any, ...] = (
    *(None, True, -1, 0, 3, 2**31, 10**30, 0.5, 1e300, float("nan"), float("inf")),
    *("", "x", "../x", "\ud800", [], {}, [None], [-1], [10**9, 10**9], 20 * [1], {"a": 1}),
)
NESTED = b'{"a":' * 100_000


@pytest.fixture(scope="module")
def original(fine: Codec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in 8 bits with a context model."""
    folder = tmp_path_factory.mktemp("original") / "model"
    export_model(saved_folder(fine), folder)
    config, fingerprint = fine.config, bytes.fromhex(read_description(folder)["fingerprint"])
    shape = ContextShape(config.num_codebooks, config.codebook_size, 3, width=8, hidden=5)
    save_context(
        folder, shape, random_context(np.random.default_rng(0), shape, largest=5), fingerprint
    )
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(original, tmp_path / "model"))


def use_core(folder: Path) -> None:
    """All that a stream needs of a model, search and entropy coding included."""
    engine = load_model(folder, backend="core")
    engine.spec.codebooks_for(None)
    rate = None if engine.context is None else engine.spec.plain_bitrates[-1]
    encoder = StreamEncoder(engine, rate=rate, effort=1)
    decoder = StreamDecoder(encoder.header, engine)
    for packet in encoder.push(sound(engine.spec.hop_length)) + encoder.finish():
        decoder.push(packet)


def assert_clear(use: Callable[[Path], object], folder: Path, what: object) -> bool:
    """Whether a folder works; it may also be refused in one line."""
    try:
        use(folder)
    except CodecError as error:
        assert len(str(error).splitlines()) == 1, what
        return False
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    return True


def mutations(document: Any) -> Iterator[tuple[str, Any]]:
    """A JSON document with another value at one place, and without it, for each of its places."""

    def places(node: Any, before: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        yield before
        if isinstance(node, dict | list):
            for key in node if isinstance(node, dict) else range(len(node))[:2]:
                yield from places(node[key], (*before, key))

    for place in places(document, ()):
        for value in (*WRONG, "deleted"):
            changed = {"": copy.deepcopy(document)}
            node: Any = changed
            *way, last = ("", *place)
            for key in way:
                node = node[key]
            if value == "deleted":
                del node[last]
            else:
                node[last] = value
            yield f"{place} = {value!r}", changed.get("")


def test_a_description_with_any_other_value_is_refused_or_works(folder: Path) -> None:
    path = folder / "config.json"
    document = json.loads(path.read_text())

    def read(folder: Path) -> None:
        engine = load_model(folder, backend="core").engine
        engine.init_encoder(1), engine.init_decoder(1)  # type: ignore[unused-ignore]

    for what, changed in [*mutations(document)][::2]:  # all of them take seconds
        path.write_text(json.dumps(changed))
        assert_clear(read, folder, what)
    for data in (b"", b"\xff", b"{", b"[]", NESTED, b'{"format": 1' + b"0" * 5000 + b"}"):
        path.write_bytes(data)
        assert not assert_clear(read, folder, data[:20])


def test_sizes_that_do_not_fit_the_weights_are_refused_when_a_stream_begins(folder: Path) -> None:
    path = folder / "config.json"
    text = path.read_text()
    for field, value in (
        *(("sample_rate", 16_000), ("num_codebooks", 1), ("num_codebooks", 255)),
        *(("codebook_size", 2), ("codebook_size", 2**16), ("codebook_dim", 1)),
        *(("latent_dim", 1), ("strides", [4, 4]), ("strides", [8, 8])),
    ):
        description = json.loads(text)
        description["codec"][field] = value
        path.write_text(json.dumps(description))
        assert_clear(use_core, folder, (field, value))
        assert_clear(load_codec, folder, (field, value))


def damaged(data: bytes, number: int, seed: int) -> Iterator[bytes]:
    """Bytes that were cut, or changed at some places."""
    rng = np.random.default_rng(seed)
    for _ in range(number):
        changed = bytearray(data)
        for place in rng.integers(len(data), size=rng.integers(1, 4)):
            changed[place] = rng.integers(256)
        yield bytes(changed[: rng.integers(len(data))] if rng.random() < 0.3 else changed)


def set_weights(folder: Path, data: bytes) -> None:
    """Write the weights of a model with their checksum, as a forger does."""
    (folder / "weights.safetensors").write_bytes(data)
    description = json.loads((folder / "config.json").read_text())
    description["weights_sha256"] = hashlib.sha256(data).hexdigest()
    (folder / "config.json").write_text(json.dumps(description))


def tables(data: bytes) -> Iterator[bytes]:
    """A file of stored tensors with another table."""
    (size,) = struct.unpack_from("<Q", data)
    table = json.loads(data[8 : 8 + size])
    few = dict(list(table.items())[:2])
    for _, changed in mutations(few):
        encoded = json.dumps(changed).encode()
        yield struct.pack("<Q", len(encoded)) + encoded + data[8 + size :]
    for length in (0, 7, 2**63, 2**64 - 1, len(data)):
        yield struct.pack("<Q", length) + data[8:]
    yield struct.pack("<Q", len(NESTED)) + NESTED


def read_tensors(data: bytes, _: Path) -> object:
    """Read the tensors of a file of weights, whatever the folder holds."""
    return stored_tensors(data)


def test_a_small_file_does_not_hold_many_large_tensors() -> None:
    """Of the same bytes, which are copied where they are not aligned."""
    entry = {"dtype": "F32", "shape": [250], "data_offsets": [1, 1001]}
    for count, fits in ((1, True), (2, False)):
        table = json.dumps({str(number): entry for number in range(count)}).encode()
        data = struct.pack("<Q", len(table)) + table + bytes(1001)
        if fits:
            assert stored_tensors(data)["0"].shape == (250,)
        else:
            with pytest.raises(ModelError, match="its tensors lie over one another"):
                stored_tensors(data)


def test_weights_with_any_other_table_are_refused_or_work(folder: Path) -> None:
    data = (folder / "weights.safetensors").read_bytes()
    for changed in tables(data):
        assert_clear(partial(read_tensors, changed), folder, changed[:100])
    for number, changed in enumerate((*damaged(data, 10, 0), *list(tables(data))[::40])):
        set_weights(folder, changed)
        assert_clear(use_core, folder, number)
        assert_clear(load_codec, folder, number)


def test_a_context_model_that_is_damaged_or_forged_is_refused_or_works(folder: Path) -> None:
    path = folder / CONTEXT_FILE
    data = path.read_bytes()
    tensors = load(data)
    forged = []
    for _, changed in [*mutations(json.loads(tensors["meta"].tobytes()))][::2]:
        encoded = np.frombuffer(json.dumps(changed).encode(), np.uint8)
        forged.append(save({**tensors, "meta": encoded}))
    assert len(forged) > 100
    for number, changed in enumerate((*forged, *damaged(data, 60, 1), *list(tables(data))[::7])):
        path.write_bytes(changed)
        if not assert_clear(lambda path: load_model(path, backend="core").context, folder, number):
            continue
        assert_clear(use_core, folder, number)


def test_a_context_model_of_other_codes_is_refused(folder: Path) -> None:
    config = CodecConfig.from_dict(read_description(folder)["codec"])
    shape = ContextShape(config.num_codebooks + 1, config.codebook_size, 3, width=8, hidden=5)
    fingerprint = bytes.fromhex(read_description(folder)["fingerprint"])
    save_context(
        folder, shape, random_context(np.random.default_rng(0), shape, largest=5), fingerprint
    )
    with pytest.raises(CodecError, match="the context model is about"):
        StreamEncoder(load_model(folder, backend="core"))


@pytest.fixture
def packaged(tmp_path: Path) -> Path:
    """A copy of the packaged model, which takes no export."""
    return Path(shutil.copytree(find_model("speech24k"), tmp_path / "packaged"))


def devices(path: Path) -> Iterator[str]:
    """Put what may never end, or is no file, in the place of a file, and say what."""
    path.unlink()
    os.mkfifo(path)
    yield "a pipe"
    path.unlink()
    path.symlink_to("/dev/zero")
    yield "a device"
    path.unlink()
    path.mkdir()
    yield "a folder"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize(
    "name", ["config.json", "weights.safetensors", "context.safetensors", "card.md"]
)
def test_a_pipe_or_device_in_place_of_a_file_is_refused_and_not_read(
    name: str, packaged: Path, tmp_path: Path
) -> None:
    (tmp_path / "for-the-hub").mkdir()
    uses: dict[str, list[Callable[[Path], object]]] = {
        "config.json": [load_model, load_codec, read_description],
        "weights.safetensors": [load_model, load_codec],
        "context.safetensors": [lambda folder: load_model(folder).context],
        "card.md": [],
    }
    for what in devices(packaged / name):
        for use in (*uses[name], lambda folder: hub_files(folder, tmp_path / "for-the-hub", "mit")):
            assert not assert_clear(use, packaged, what)


def test_no_link_publishes_what_lies_outside_of_a_folder(packaged: Path, tmp_path: Path) -> None:
    (tmp_path / "for-the-hub").mkdir()
    (tmp_path / "secret").write_text("# a key")
    for name in ("card.md", "context.safetensors"):
        before = (packaged / name).read_bytes()
        (packaged / name).unlink()
        (packaged / name).symlink_to("../secret")
        with pytest.raises(ModelError, match="is a link out of"):
            hub_files(packaged, tmp_path / "for-the-hub", "mit")
        (packaged / name).unlink()
        (packaged / name).write_bytes(before)
    assert list((tmp_path / "for-the-hub").iterdir()) == []


def test_a_description_of_gigabytes_is_not_read(packaged: Path) -> None:
    with (packaged / "config.json").open("r+b") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(ModelError, match="it has 1099511627776 bytes, 16777216 at most are read"):
        read_description(packaged)


def test_a_folder_of_links_as_the_hub_makes_them_works(original: Path, tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    for path in original.iterdir():
        shutil.copy(path, tmp_path / "blobs" / f"blob-{path.name}")
        (tmp_path / "snapshot" / path.name).symlink_to(f"../blobs/blob-{path.name}")
    use_core(tmp_path / "snapshot")
