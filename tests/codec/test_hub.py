"""Models on the hub, which is a local folder here."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import huggingface_hub as hub
import pytest

from codec.errors import ModelError
from codec.hub import parse_name
from codec.registry import load_model
from tests.codec.cli.test_cli import fails, run
from tests.conftest import sound, wav


class LocalHub:
    """Stands for the hub: a repository is a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.private: dict[str, bool] = {}

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.private.setdefault(name, private)

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        shutil.copytree(folder_path, self.folder / repo_id, dirs_exist_ok=True)

    def snapshot_download(
        self, name: str, *, revision: str | None, allow_patterns: list[str]
    ) -> str:
        if not (self.folder / name).is_dir() or revision not in (None, "v1"):
            raise hub.errors.HfHubHTTPError("404 Client Error.\nmore", response=Response())  # type: ignore[arg-type]
        return str(self.folder / name)


class Response:
    """What the error of the hub wants to know."""

    headers: dict[str, str] = {}  # noqa: RUF012
    request: Any = None


@pytest.fixture
def local_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalHub:
    there = LocalHub(tmp_path / "hub")
    monkeypatch.setattr(hub, "HfApi", lambda: there)
    monkeypatch.setattr(hub, "snapshot_download", there.snapshot_download)
    return there


@pytest.fixture
def carded(model_folder: Path, tmp_path: Path) -> Path:
    """A model folder with a card."""
    folder = tmp_path / "carded"
    shutil.copytree(model_folder, folder)
    (folder / "card.md").write_text("# test\n\nKünstliche Daten.\n", "utf-8")
    (folder / "training").mkdir()
    (folder / "training" / "secret").write_text("stays at home")
    return folder


def test_a_model_is_pushed_with_its_card_and_named_by_its_place(
    carded: Path, local_hub: LocalHub, tmp_path: Path
) -> None:
    result = run("push", carded, "user/na-me.1", "--licence", "cc-by-4.0", "--private")
    assert (result.exit_code, result.stdout) == (0, "hf://user/na-me.1\n")
    folder = local_hub.folder / "user" / "na-me.1"
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["README.md", "card.md", "config.json", "weights.safetensors"]
    readme = (folder / "README.md").read_text("utf-8")
    assert readme.startswith("---\nlicense: cc-by-4.0\nlibrary_name: aecodec\n")
    assert readme.endswith("---\n# test\n\nKünstliche Daten.\n")
    assert local_hub.private == {"user/na-me.1": True}

    there = load_model("hf://user/na-me.1").engine
    assert there.spec == load_model(carded).spec
    audio = sound(500)
    codes, _ = there.encode_step(audio[:, :480], there.init_encoder(1))
    assert codes.shape == (1, 4, 12)
    (tmp_path / "a.wav").write_bytes(wav(3_000))
    paths = (tmp_path / "a.wav", tmp_path / "a.codes")
    assert run("encode", *paths, "-m", "hf://user/na-me.1@v1").exit_code == 0
    facts = json.loads(run("info", "--json", "-m", "hf://user/na-me.1").stdout)
    assert facts["fingerprint"] == there.spec.fingerprint.hex()


def test_failures_have_one_line(
    carded: Path, model_folder: Path, local_hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    licence = ("--licence", "mit")
    fails(run("push", model_folder, "user/name", *licence), 1, "has no card.md")
    fails(run("push", carded, "name", *licence), 1, "give user/name")
    fails(run("push", carded, "user/name@v1", *licence), 1, "leave out @v1")
    fails(run("push", "none", "user/name", *licence), 1, "no model 'none'")
    fails(run("info", "-m", "hf://user/none"), 1, "cannot be downloaded: 404 Client Error.")
    (carded / "weights.safetensors").write_bytes(b"other")
    fails(run("push", carded, "user/name", *licence), 1, "is damaged")
    assert not local_hub.folder.exists()
    assert run("push", carded, "user/name").exit_code == 2  # a licence must be stated
    for name in ("", "a", "a/b/c", "a b/c", "../x/y", "hf://a/b"):
        with pytest.raises(ModelError, match="is no name on the hub"):
            parse_name(name)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    fails(run("info", "-m", "hf://user/name"), 1, 'pip install "aecodec[hub]"')
