"""``aecodec web``: what is served, to whom, and what is copied."""

from __future__ import annotations

import hashlib
import json
import re
import resource
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from codec.cli.app import main
from codec.cli.web import ADDRESS, MODELS, PAGE, copy_page, open_server, page_files
from codec.errors import ModelError
from codec.export import export_model
from codec.model_folder import (
    DEFAULT_MODEL,
    as_stored,
    find_model,
    read_description,
    stored_tensors,
)
from codec.network.model import Codec
from codec.network.weights import save_codec
from tests.conftest import REPOSITORY

MODEL_FILES = ("config.json", "weights.safetensors", "context.safetensors")


@pytest.fixture
def hostile_model(tmp_path: Path) -> Path:
    """A copy of the packaged model, to be changed."""
    folder = tmp_path / "models" / "hostile"
    shutil.copytree(find_model(DEFAULT_MODEL), folder)
    return folder


@pytest.fixture(scope="module")
def connection() -> Iterator[HTTPConnection]:
    with open_server(page_files([DEFAULT_MODEL]), port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        connection = HTTPConnection(ADDRESS, server.server_port)
        yield connection
        connection.close()
        server.shutdown()


def get(connection: HTTPConnection, path: str) -> tuple[int, str | None, bytes]:
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.getheader("Content-Type"), response.read()


def test_the_page_and_its_model_are_served(connection: HTTPConnection) -> None:
    assert get(connection, "/")[:2] == (200, "text/html")
    assert get(connection, "/app.js?again") == (
        200,
        "text/javascript",
        (PAGE / "app.js").read_bytes(),
    )
    (model,) = json.loads(get(connection, f"/{MODELS}")[2])
    folder = find_model(DEFAULT_MODEL)
    assert model["fingerprint"] == read_description(folder)["fingerprint"]
    assert model["codebooks"] == [{"bits": 10, "perFrame": 1}] * 20
    assert model["channelsCodedTogether"] == 1
    served = {name: get(connection, f"/{model['folder']}{name}")[2] for name in MODEL_FILES}
    assert served["context.safetensors"] == (folder / "context.safetensors").read_bytes()
    description = json.loads(served["config.json"])
    assert description["format"] == 3 and description["codec"]["channels"] == 1
    digest = hashlib.sha256(served["weights.safetensors"]).hexdigest()
    assert description["weights_sha256"] == digest
    assert get(connection, "/aecodec.wasm")[:2] == (200, "application/wasm")


def test_the_weights_have_8_bits(model_folder: Path, tmp_path: Path) -> None:
    """They are those that `aecodec export` writes."""
    files = page_files([str(model_folder)])
    fingerprint = read_description(model_folder)["fingerprint"]
    export_model(model_folder, tmp_path)
    stored = (tmp_path / "weights.safetensors").read_bytes()
    assert files[f"models/{fingerprint}/weights.safetensors"] == stored


def test_models_of_one_fingerprint_have_places_of_their_own(
    model_folder: Path, tmp_path: Path
) -> None:
    """They may differ in their decoders alone; one that is given twice is there once."""
    other = tmp_path / "other"
    shutil.copytree(model_folder, other)
    changed = tmp_path / "changed"
    export_model(model_folder, changed)
    tensors = stored_tensors((changed / "weights.safetensors").read_bytes())
    name = next(name for name, value in tensors.items() if value.dtype == np.float32)
    tensors[name] = 0.5 * tensors[name]
    weights = as_stored(tensors)
    (changed / "weights.safetensors").write_bytes(weights)
    path, digest = changed / "config.json", hashlib.sha256(weights).hexdigest()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"weights_sha256": digest}))
    files = page_files([str(model_folder), str(other), str(changed)])
    listed = files[MODELS]
    assert isinstance(listed, bytes)
    first, second = json.loads(listed)
    assert first["fingerprint"] == second["fingerprint"] == first["key"] != second["key"]
    assert files[second["folder"] + "weights.safetensors"] == weights
    assert files[first["folder"] + "weights.safetensors"] != weights


@pytest.mark.parametrize(
    "path", ["/missing.js", "/../cli/web.py", "/%2e%2e/cli/web.py", "//etc/passwd", "/format/"]
)
def test_nothing_else_is_served(connection: HTTPConnection, path: str) -> None:
    assert get(connection, path)[0] == 404


def test_the_files_are_for_pages_of_this_address_alone(connection: HTTPConnection) -> None:
    """Not for another name that leads here (DNS rebinding), nor for another site that shows it."""
    for host, status in (
        ("localhost:80", 200),
        ("127.0.0.1", 200),
        ("evil.example", 421),
        ("evil.example:8424", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
        ("[", 421),
        ("[::1]", 421),
        ("evil.example@localhost", 421),
        ("localhost/evil.example", 421),
        ("localhost:x", 421),
    ):
        connection.request("GET", "/", headers={"Host": host})
        response = connection.getresponse()
        response.read()
        assert response.status == status, host
        assert response.getheader("X-Content-Type-Options") == "nosniff"
        assert response.getheader("Cross-Origin-Resource-Policy") == "same-origin"
        policy = str(response.getheader("Content-Security-Policy"))
        assert policy.startswith("default-src 'none'; script-src 'self' 'wasm-unsafe-eval';")


def test_clients_that_say_nothing_or_are_many_do_not_keep_the_others_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("codec.cli.web.MOST_CONNECTIONS", 2)
    monkeypatch.setattr("codec.cli.web.LONGEST_SECONDS", 0.2)
    with ExitStack() as stack:
        server = stack.enter_context(open_server({"index.html": b"page"}, port=0))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stack.callback(server.shutdown)
        silent = [
            stack.enter_context(socket.create_connection((ADDRESS, server.server_port)))
            for _ in range(3)
        ]
        for client in silent:
            client.sendall(b"GET /")
            with suppress(ConnectionError):
                assert client.recv(1) == b""  # cut off
        connection = HTTPConnection(ADDRESS, server.server_port)
        while True:  # until the threads of the others have ended
            with suppress(OSError, HTTPException):
                assert get(connection, "/")[2] == b"page"
                break
        connection.close()


def test_a_fingerprint_of_a_model_folder_is_no_path(hostile_model: Path) -> None:
    path = hostile_model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fingerprint": "../../../x"}))
    with pytest.raises(ModelError, match="it has 32 hexadecimal digits"):
        page_files([str(hostile_model)])


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        copy_page({"a": b"", "b": tmp_path / "missing"}, tmp_path / "site")
    assert list(tmp_path.iterdir()) == []


def test_every_address_in_the_page_is_there() -> None:
    files = page_files([DEFAULT_MODEL])
    named = 0
    for name, path in files.items():
        if not name.endswith((".js", ".html")):
            continue
        text = path.read_text("utf-8") if isinstance(path, Path) else ""
        pattern = r'(?:from |import\(|URL\(|href=|src=)"(?:\./)?((?:\.\./)*[\w/.-]+\.\w+)"'
        for target in re.findall(pattern, text):
            found = (PAGE / name).parent / target
            assert found.resolve().relative_to(PAGE).as_posix() in files, (name, target)
            named += 1
        assert "http://" not in text and "https://" not in text, name
    assert named > 30


def test_the_page_becomes_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "site"
    result = CliRunner().invoke(main, ["web", "--out", str(out)])
    assert result.exit_code == 0 and result.stdout.strip() == str(out)
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert written == page_files([DEFAULT_MODEL]).keys()
    again = CliRunner().invoke(main, ["web", "--out", str(out)])
    assert again.exit_code == 1
    assert (
        again.stderr.strip() == f"aecodec: {out} exists already: remove it, or give another folder"
    )


def test_a_full_disk_leaves_no_half_of_a_page(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(bytes(5_000))
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, unlimited[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            copy_page({"index.html": b"page", "models/a": tmp_path / "model"}, tmp_path / "site")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_port_that_is_taken_gives_one_line() -> None:
    with socket.socket() as other:
        other.bind((ADDRESS, 0))
        other.listen()
        port = other.getsockname()[1]
        result = CliRunner().invoke(main, ["web", "--no-browser", "--port", str(port)])
    assert result.exit_code == 1
    assert "give another one with --port" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_model_that_the_core_cannot_run_gives_one_line(gru: Codec, tmp_path: Path) -> None:
    save_codec(gru, tmp_path / "gru", name="test")
    result = CliRunner().invoke(main, ["web", "--model", str(tmp_path / "gru")])
    assert result.exit_code == 1
    assert result.stderr.strip().endswith("has no recurrent layers (gru); offer another model")
    assert len(result.stderr.splitlines()) == 1


def test_the_package_contains_the_page() -> None:
    assert '"web/**/*"' in (REPOSITORY / "pyproject.toml").read_text()
