"""The core computes the same with every level of optimisation and in threads; decode.c works."""

from __future__ import annotations

import os
import runpy
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from codec import load_model
from codec.core import library
from codec.core.backend import CORE
from tests.codec.core.digests import EXAMPLE, THREADS, compile_program, run_program, write_model
from tests.conftest import RECORDING

CONTEXT = ("config", "context.sizes", "context.weights", "context.biases", "context.order")
"""Arrays of a model that every loaded one has."""
COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), "")
needs_compiler = pytest.mark.skipif(not COMPILER, reason="compiles a program")


@needs_compiler
@pytest.mark.slow
def test_levels_of_optimisation_kernels_and_threads_give_the_same_digests(tmp_path: Path) -> None:
    """``.ci/digests`` compares more: other compilers and processors."""
    write_model(tmp_path / "model", 5)
    compile_program(tmp_path / "plain", (COMPILER, "-O1", *THREADS))
    compile_program(tmp_path / "linked", (COMPILER,), library.PATH)
    fastest = run_program(tmp_path / "linked", tmp_path / "model")
    assert fastest.count("\n") == 5 * 2  # clips of all kinds, in whole and in steps
    assert run_program(tmp_path / "plain", tmp_path / "model", "portable") == fastest


@needs_compiler
@pytest.mark.skipif(sys.platform == "win32", reason="the compiler's arguments are those of others")
def test_the_example_in_c_decodes_packets_to_the_samples_of_python(tmp_path: Path) -> None:
    """A frame in three is lost, and replaced by the one before."""
    files = [str(tmp_path / name) for name in ("speech.model", "speech.packets", "speech.f32")]
    script = EXAMPLE / "export.py"
    command = [sys.executable, str(script), str(RECORDING), *files[:2], "--lose", "3"]
    subprocess.run(command, check=True)
    program = tmp_path / "decode"
    sources = [str(EXAMPLE / name) for name in ("decode.c", "model.c")]
    arguments = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-I", str(CORE / "include"))
    linked = (str(library.PATH), f"-Wl,-rpath,{library.PATH.parent}")
    subprocess.run([COMPILER, *arguments, *sources, *linked, "-o", str(program)], check=True)
    subprocess.run([program, *files], check=True)
    decoded = np.fromfile(files[2], np.float32)

    model = load_model(backend="core")
    read = runpy.run_path(str(script))["read_frames"]
    audio = read(RECORDING, model.spec.sample_rate, model.spec.hop_length)
    codes, _ = model.engine.encode_step(audio, model.engine.init_encoder(1), 12)
    held = np.arange(codes.shape[-1])
    held[2::3] -= 1
    expected, _ = model.engine.decode_step(codes[..., held], model.engine.init_decoder(1))
    assert np.array_equal(decoded, expected[0])
    damaged = tmp_path / "damaged"
    damaged.write_bytes(Path(files[1]).read_bytes()[:-1])
    failed = subprocess.run(
        [program, files[0], damaged, files[2]], capture_output=True, text=True, check=False
    )
    assert failed.returncode == 1 and "cannot be decoded: error -1 of aecodec.h" in failed.stderr
    _refuses_other_models(program, Path(files[0]).read_bytes(), damaged)


def _refuses_other_models(program: Path, model: bytes, path: Path) -> None:
    """Whatever the sizes in a file are, and where it ends."""
    headers = {name: model.index(name.encode() + b"\0") for name in CONTEXT}
    changes = [(len(model) - 1, b""), (100, b"")]
    for place in headers.values():
        for count in (0, 2**62, 2**64 - 1):
            changes.append((place + 120, struct.pack("<Q", count)))
        changes += [(place + 112, struct.pack("<II", *kind)) for kind in ((3, 1), (0, 1), (9, 0))]
    for place, data in changes:
        rest = model[place + len(data) :] if data else b""
        path.write_bytes(model[:place] + data + rest)
        failed = subprocess.run(
            [program, path, path, os.devnull], capture_output=True, text=True, check=False
        )
        assert failed.returncode == 2 and failed.stderr.startswith("usage: "), (place, data)
