"""The command as a user runs it: exit status, one clear line, nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from codec.cli.app import main
from codec.engines.torch import TorchEngine
from codec.errors import NotEnoughMemoryError
from codec.io.outputs import UNFINISHED
from codec.network.model import Codec
from codec.registry import load_model
from tests.conftest import GOLDEN, RECORDING, REPOSITORY, encode_in_packets, sound
from tests.engines import folder_with_graphs


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def fails(result: Result, status: int, message: str) -> None:
    assert result.exit_code == status, result.output
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "in.wav", sound(9_000, 2).T, 16_000)
    return tmp_path / "in.wav"


def test_a_file_goes_there_and_back(wav: Path, model_folder: Path, tmp_path: Path) -> None:
    codes, out = tmp_path / "a.codes", tmp_path / "b.flac"
    result = run("encode", wav, codes, "-b", "2.9k", "-m", model_folder)
    assert result.exit_code == 0 and result.stdout == ""
    assert "2 codebooks; 2.546 kbit/s per channel" in result.stderr
    assert run("decode", codes, out, "-m", model_folder).exit_code == 0
    facts = soundfile.info(out)
    assert (facts.samplerate, facts.channels, facts.frames) == (16_000, 2, 9_000)


@pytest.mark.skipif(os.name != "posix", reason="such names are no names")
def test_names_with_control_characters_take_one_line_and_command_no_terminal(
    tmp_path: Path,
) -> None:
    fails(run("encode", tmp_path / "no\nline.wav", tmp_path / "a.codes"), 1, r"no\nline.wav does")
    fails(run("info", tmp_path / "\x1b[31mred.codes"), 1, r"\x1b[31mred.codes cannot")
    shutil.copy(GOLDEN / "mono.codes", tmp_path / "a\nb\r.codes")
    for command in ("verify", "info"):
        result = run(command, tmp_path / "a\nb\r.codes")
        assert r"a\nb\r.codes" in result.stdout and "\r" not in result.stdout


def test_info_tells_what_a_stream_holds(wav: Path, model_folder: Path, tmp_path: Path) -> None:
    codes = tmp_path / "a.codes"
    run("encode", wav, codes, "-m", model_folder)
    facts = json.loads(run("info", codes, "--json").stdout)
    assert facts["num_samples"] == 9_000
    assert facts["channels"] == 2
    assert facts["bytes"] == codes.stat().st_size
    seconds = facts["num_samples"] / facts["sample_rate"]
    assert facts["bitrate"] == round(8 * facts["bytes"] / seconds / 2)  # per channel
    assert facts["payload_bitrate"] == 4_000
    assert facts["damage"] is None
    assert "num samples" in run("info", codes).stdout


def test_info_tells_what_a_model_is(model_folder: Path) -> None:
    facts = json.loads(run("info", "--model", model_folder, "--json").stdout)
    assert facts["algorithmic_latency_ms"] == 7.5
    assert facts["plain_bitrates"] == [1000, 2000, 3000, 4000]


def test_a_model_is_exported_and_named_backends_are_used(
    wav: Path, lapped: Codec, tmp_path: Path
) -> None:
    exported = tmp_path / "exported"
    shutil.copytree(folder_with_graphs(lapped), exported)
    fails(run("export", exported, exported), 1, "holds graphs already: give --force")
    fails(run("export", "speech24k", exported), 1, "holds a model already: give --force")
    fails(run("export", "speech25k", exported), 1, "no model 'speech25k'")
    result = run("export", exported, exported, "--force")
    assert (result.exit_code, result.stdout.strip()) == (0, str(exported)), result.output
    streams: list[bytes] = []
    for options in (["--backend", "onnx"], ["--backend", "torch"], []):
        target = tmp_path / f"{len(streams)}.codes"
        assert run("encode", wav, target, "-m", exported, *options).exit_code == 0
        streams.append(target.read_bytes())
    assert streams[0] == streams[2] and len(streams[0]) == len(streams[1])
    for backend in ("onnx", "torch"):
        out = tmp_path / f"{backend}.wav"
        assert run("decode", target, out, "-m", exported, "--backend", backend).exit_code == 0
    first, second = (soundfile.read(tmp_path / f"{name}.wav")[0] for name in ("onnx", "torch"))
    assert np.abs(first - second).max() < 1e-3


def test_damage_is_reported_and_the_rest_decoded(
    wav: Path, model_folder: Path, tmp_path: Path
) -> None:
    codes, out = tmp_path / "a.codes", tmp_path / "b.wav"
    encode_in_packets(wav, codes, 5, model=model_folder)
    data = bytearray(codes.read_bytes())
    data[100] ^= 1
    codes.write_bytes(data)
    result = run("decode", codes, out, "-m", model_folder)
    fails(result, 1, "1 packets are damaged or missing; the rest was decoded")
    assert soundfile.info(out).frames == 9_000
    assert run("info", codes).exit_code == 1


def test_wrong_use_names_the_remedy(wav: Path, model_folder: Path, tmp_path: Path) -> None:
    model = ("-m", model_folder)
    text, empty, codes = tmp_path / "text.wav", tmp_path / "empty.wav", tmp_path / "a.codes"
    text.write_text("no sound here\n" * 99)
    empty.touch()
    fails(run("encode", tmp_path / "none.wav", codes, *model), 1, "check the path")
    fails(run("encode", text, codes, *model), 1, "convert it first")
    fails(run("encode", empty, codes, *model), 1, "is empty")
    fails(run("encode", tmp_path, codes, *model), 1, "use --out-dir")
    fails(run("encode", wav, tmp_path / "no" / "a.codes", *model), 1, "choose another place")
    fails(run("encode", wav, codes, *model, "-b", "0"), 2, "write 6000, 6k or 2.4k")
    fails(run("encode", wav, codes, *model, "-b", "abc"), 2, "write 6000, 6k or 2.4k")
    fails(run("encode", wav, codes, *model, "-b", "1000000k"), 1, "take 1.54311 kbit/s to 4.55111")
    fails(run("encode", wav, codes, *model, "-b", "1"), 1, "take 1.54311 kbit/s to 4.55111")
    fails(run("encode", wav, codes, "-m", tmp_path), 1, "give a folder with config.json")
    fails(run("encode", wav), 2, "one input and one output")
    fails(run("encode", wav, f"{tmp_path}/out/", *model), 1, "is a folder")
    fails(run("encode", wav, "-d", text, *model), 1, "give a folder to --out-dir")
    fails(run("decode", text, tmp_path / "b.wav", "--format", "exe"), 2, "give one of wav")
    fails(run("info", tmp_path), 1, "is a folder")
    fails(run("decode", text, tmp_path / "b.wav"), 1, "not a .codes stream")
    fails(run("decode", tmp_path / "none", tmp_path / "b.wav"), 1, "No such file")
    assert not codes.exists() and not (tmp_path / "b.wav").exists()
    codes.write_bytes(b"precious")
    fails(run("encode", wav, codes, *model), 1, "--force")
    assert codes.read_bytes() == b"precious"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["a.codes", "empty.wav", "in.wav", "text.wav"]


def test_the_wrong_model_is_refused(wav: Path, model_folder: Path, tmp_path: Path) -> None:
    codes = tmp_path / "a.codes"
    run("encode", wav, codes, "-m", model_folder)
    fails(run("decode", codes, tmp_path / "b.wav"), 1, "give the right folder with --model")
    wrong = run("decode", codes, tmp_path / "b.wav", "-m", "speech24k")
    fails(wrong, 1, load_model(model_folder).spec.fingerprint.hex())


def test_many_files_go_on_past_a_bad_one(model_folder: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.wav", "c.flac", "deep/d.ogg"):
        soundfile.write(folder / name, sound(3_000)[0], 16_000)
    (folder / "b.wav").write_text("no sound")
    (folder / "notes.txt").write_text("not looked at")
    result = run("encode", folder, "--out-dir", out, "-m", model_folder)
    assert result.exit_code == 1
    assert result.stderr.strip().splitlines()[-1].startswith("aecodec: 1 of 4 files failed:")
    made = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert made == ["a.codes", "c.codes", "deep/d.codes"]
    result = run(
        "decode", out, "--out-dir", tmp_path / "back", "--format", "flac", "-m", model_folder
    )
    assert result.exit_code == 0
    assert soundfile.info(tmp_path / "back" / "deep" / "d.flac").frames == 3_000


def test_inputs_that_would_collide_are_refused(model_folder: Path, tmp_path: Path) -> None:
    for name in ("a.wav", "a.flac"):
        soundfile.write(tmp_path / name, sound(100)[0], 16_000)
    result = run(
        "encode", tmp_path / "a.wav", tmp_path / "a.flac", "-d", tmp_path / "o", "-m", model_folder
    )
    fails(result, 1, "would both become")


def aecodec(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "codec.cli", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        check=False,
    )


def test_pipes_both_ways(wav: Path, model_folder: Path, tmp_path: Path) -> None:
    codes = aecodec("encode", "-", "-", "-m", model_folder, stdin=wav.read_bytes())
    assert (codes.returncode, codes.stdout[:4]) == (0, b"AECD"), codes.stderr
    back = aecodec("decode", "-", "-", "-m", model_folder, stdin=codes.stdout)
    assert back.returncode == 0, back.stderr
    (tmp_path / "b.wav").write_bytes(back.stdout)
    assert soundfile.info(tmp_path / "b.wav").frames == 9_000
    assert aecodec("info", "-", stdin=codes.stdout).returncode == 0


def test_a_stream_is_enough(tmp_path: Path) -> None:
    """Law 2: the process that decodes is told nothing but the file."""
    assert aecodec("encode", RECORDING, tmp_path / "a.codes", "-b", "1k").returncode == 0
    result = aecodec("decode", tmp_path / "a.codes", tmp_path / "b.wav", "-r", "model")
    assert result.returncode == 0, result.stderr
    facts, original = soundfile.info(tmp_path / "b.wav"), soundfile.info(RECORDING)
    assert (facts.frames, facts.samplerate) == (original.frames, 24_000)


def line(result: subprocess.CompletedProcess[bytes], message: str) -> None:
    """Exit status 1, and one line with ``message`` on stderr."""
    text = result.stderr.decode()
    assert (result.returncode, len(text.splitlines())) == (1, 1), text
    assert message in text


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_in_one_line(wav: Path, model_folder: Path, tmp_path: Path) -> None:
    codes = tmp_path / "a.codes"
    fails(run("encode", wav, "/dev/full", "-m", model_folder), 1, "No space left")
    assert run("encode", wav, codes, "-m", model_folder).exit_code == 0
    fails(run("decode", codes, "/dev/full", "-m", model_folder), 1, "No space left")
    # A file that may not grow: the limit is on the process and all that it starts.
    limited = 'ulimit -f 8; exec "$@"'
    for target in ("b.wav", "b.flac"):
        arguments = ["decode", codes, tmp_path / target, "-m", model_folder]
        command = [sys.executable, "-m", "codec.cli", *map(str, arguments)]
        result = subprocess.run(
            ["bash", "-c", limited, "bash", *command], capture_output=True, check=False
        )
        line(result, "cannot be written: File too large")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.codes", "in.wav"]


def test_closed_pipes_and_missing_streams(wav: Path, model_folder: Path) -> None:
    program = f"{sys.executable} -m codec.cli"
    for script, message in (
        (f"{program} info - <&-", "no standard input"),
        (f"{program} encode - x.codes -m {model_folder} <&-", "no standard input"),
        (f"{program} encode {wav} - -m {model_folder} >&-", "no standard output"),
        (f"{program} info /dev/null", "does not start with 'AECD'"),
    ):
        result = subprocess.run(["bash", "-c", script], capture_output=True, check=False)
        line(result, message)


def test_a_terminated_run_leaves_nothing(model_folder: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", np.zeros(8_000 * 600), 8_000)
    command = [sys.executable, "-m", "codec.cli", "encode", str(tmp_path / "in.wav")]
    command += [str(tmp_path / "a.codes"), "-m", str(model_folder)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(f"{UNFINISHED}*")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.terminate()
    assert process.returncode == 128 + signal.SIGTERM
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["in.wav"]


def test_info_and_help_do_not_import_torch(tmp_path: Path) -> None:
    golden = GOLDEN / "mono.codes"
    script = (
        "import sys; from click.testing import CliRunner; from codec.cli.app import main\n"
        f"for a in (['--help'], ['info', {str(golden)!r}]):\n"
        "    assert CliRunner().invoke(main, a).exit_code == 0\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()


def test_silence_of_no_samples_goes_through(model_folder: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", np.zeros((0, 2)), 44_100)
    assert (
        run("encode", tmp_path / "in.wav", tmp_path / "a.codes", "-m", model_folder).exit_code == 0
    )
    assert (
        run("decode", tmp_path / "a.codes", tmp_path / "b.wav", "-m", model_folder).exit_code == 0
    )
    facts = soundfile.info(tmp_path / "b.wav")
    assert (facts.frames, facts.channels, facts.samplerate) == (0, 2, 44_100)


def test_a_file_named_train_in_the_working_folder_is_not_run(tmp_path: Path) -> None:
    """As `python -m` searches that folder first, and ``torchrun`` starts the command so."""
    (tmp_path / "train.py").write_text("raise SystemExit('a stranger was run')")
    for words, path in (
        (["--help"], REPOSITORY),
        (["train", "--help"], REPOSITORY),
        (["train", "nothing", "--data", "."], f"{tmp_path}{os.pathsep}{REPOSITORY}"),
    ):
        result = subprocess.run(
            [sys.executable, "-m", "codec.cli", *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(path)},
            capture_output=True,
            text=True,
            check=False,
        )
        if "nothing" in words:  # found before our own package: one line says so
            assert result.returncode == 1
            assert result.stderr.splitlines() == [
                f"aecodec: {tmp_path / 'train.py'} shadows aecodec's package: rename it"
            ]
        else:
            assert result.returncode == 0, result.stderr
            assert "Train a codec" in result.stdout


def test_every_command_is_found_by_its_name() -> None:
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None and command.name == name
        assert command.get_short_help_str()
    assert main.get_command(context, "nothing") is None


@pytest.mark.parametrize("error", [NotEnoughMemoryError.of_step(2), MemoryError()])
def test_a_file_that_needs_too_much_memory_does_not_keep_others_from_being_coded(
    wav: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.wav", "b.wav"):
        shutil.copy(wav, tmp_path / "in" / name)
    step, calls = TorchEngine.encode_step, iter([True])

    def failing(*arguments: Any) -> Any:
        if next(calls, False):
            raise error
        return step(*arguments)

    monkeypatch.setattr(TorchEngine, "encode_step", failing)
    out = tmp_path / "out"
    result = run("encode", tmp_path / "in", "--out-dir", out, "-m", model_folder)
    assert result.exit_code == 1 and "a.wav: not enough memory" in result.stderr
    assert "1 of 2 files failed" in result.stderr and "Traceback" not in result.output
    assert [path.name for path in out.iterdir()] == ["b.codes"]
