"""Digests of what the core computes, with every compiler, level, kernel and processor at hand.

    .ci/digests

compiles ``digests.c`` with gcc, clang and ziglang where they are installed, for this processor, for
arm64 if qemu-user runs its programs, and as WebAssembly if there is Node. All must print the same.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from codec.core.backend import CORE, FLAGS, ZIG
from tests.codec.core.kernels import KERNELS

REPOSITORY = CORE.parents[1]
EXAMPLE = REPOSITORY / "examples" / "c"
SAMPLE_RATE, HOP = 24_000, 480
FRAMES, LONGEST = 8, 40
"""Frames of a clip, and of the first one, which the core divides into pieces."""
THREADS = ("-DTHREADS=4", "-pthread")
NODE = """
import { WASI } from 'node:wasi';
import { readFileSync } from 'node:fs';
const [file, ...rest] = process.argv.slice(2);
const args = [file, ...rest];
const wasi = new WASI({ version: 'preview1', args, env: process.env, preopens: { '/': '/' } });
const module = new WebAssembly.Module(readFileSync(file));
process.exitCode = wasi.start(new WebAssembly.Instance(module, wasi.getImportObject()));
"""


class Build(NamedTuple):
    """A way to compile and run the program.

    Attributes:
        name: what it is called in the table.
        compiler: command and arguments.
        kernels: that are run.
        run: command that runs programs of this kind; none for those of this machine.
    """

    name: str
    compiler: Sequence[str]
    kernels: Sequence[str]
    run: Sequence[str] = ()


def clips() -> dict[str, npt.NDArray[np.float32]]:
    """Speech, tones, noise, clicks and silence, loud, faint and damaged."""
    length, rng = FRAMES * HOP, np.random.default_rng(0)
    read = runpy.run_path(str(EXAMPLE / "export.py"))["read_frames"]
    speech = read(REPOSITORY / "examples" / "speech.flac", SAMPLE_RATE, HOP)[0]
    seconds = np.arange(length) / SAMPLE_RATE
    chord = sum(np.sin(2 * np.pi * pitch * seconds) for pitch in (220, 277.2, 329.6))
    noise = rng.normal(0, 1, length)
    no_numbers = np.array([0x7FC00000, 0xFFC00000, 0x7F812345, 0xFF800001, 0x7F800000], np.uint32)
    found = {"long speech": speech[: LONGEST * HOP]}
    found |= {f"speech{i}": speech[(2 * i + 5) * length :][:length] for i in range(9)}
    found |= {
        "faint speech": 1e-4 * found["speech1"],
        "loud speech": 30 * found["speech2"],
        "chord": 0.2 * chord,
        "tone": 0.5 * np.sin(2 * np.pi * 1000 * seconds),
        "sweep": 0.5 * np.sin(2 * np.pi * 8000 * seconds**2),
        "noise": 0.1 * noise,
        "faint noise": 1e-38 * noise,
        "speech in noise": found["speech3"] + 0.02 * noise,
        "clicks": np.where(np.arange(length) % 997, 0, 1.0),
        "silence": np.zeros(length),
        "damaged speech": found["speech4"].copy(),
    }
    found["damaged speech"][50:3500:7].view(np.uint32)[:] = np.resize(no_numbers, 493)
    return {f"clip.{name}": np.asarray(value, np.float32) for name, value in found.items()}


def write_model(path: Path, every: int = 1) -> None:
    """Write the packaged model for the program, and one clip of so many."""
    export = runpy.run_path(str(EXAMPLE / "export.py"))
    arrays = export["model_arrays"]("speech24k") | dict(list(clips().items())[::every])
    export["write_arrays"](path, arrays)


def compile_program(output: Path, compiler: Sequence[str], library: Path | None = None) -> None:
    """Compile the program.

    Args:
        output: the program.
        compiler: command and arguments.
        library: the compiled core; if None it is compiled, too.

    Raises:
        RuntimeError: with what the compiler says, if it fails.
    """
    core = [library] if library else sorted((CORE / "src").glob("*.c"))
    sources = [EXAMPLE / "model.c", Path(__file__).with_name("digests.c"), *core]
    level = () if any(each.startswith("-O") for each in compiler) else ("-O3",)
    flags = [each for each in FLAGS if each != "-O3"]
    includes = ("-I", str(CORE / "include"), "-I", str(EXAMPLE))
    # Square roots are instructions, but not for gcc -O0.
    rest = (*map(str, sources), "-lm", "-o", str(output))
    command = [*compiler, *level, *flags, *includes, *rest]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        raise RuntimeError(found.stderr)


def run_program(program: Path, model: Path, kernel: str = "", run: Sequence[str] = ()) -> str:
    """What the program prints; empty if the processor has no such kernel."""
    command = [*run, str(program), str(model)]
    environment = os.environ | {"AECODEC_KERNEL": kernel}
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    if found.returncode and "error -3" in found.stderr:
        return ""
    if found.returncode:
        raise RuntimeError(f"{' '.join(command)}: {found.stderr}")
    return found.stdout


def builds(folder: Path) -> Iterator[Build]:
    """What this machine can compile and run."""
    compilers: dict[str, tuple[str, ...]] = {
        name: (name,) for name in ("gcc", "clang") if shutil.which(name)
    }
    zig = find_spec("ziglang") is not None
    if zig:
        compilers["zig"] = (*ZIG, "-mcpu=baseline")
    for name, compiler in compilers.items():
        yield Build(f"{name} -O0", (*compiler, "-O0"), KERNELS[:1])
        for level in ("-O1", "-O3"):
            yield Build(f"{name} {level}", (*compiler, level), KERNELS)
        yield Build(f"{name} -O3, 4 threads", (*compiler, "-O3", *THREADS), KERNELS[-1:])
    if zig and shutil.which("qemu-aarch64"):
        arm = (*ZIG, "-target", "aarch64-linux-musl", "-static")
        yield Build("arm64", arm, ("portable", "dotprod"), ("qemu-aarch64",))
    if zig and shutil.which("node"):
        script = folder / "wasi.mjs"
        script.write_text(NODE)
        wasm = (*ZIG, "-target", "wasm32-wasi")
        run = ("node", "--no-warnings", str(script))
        yield Build("WebAssembly", wasm, ("portable",), run)
        yield Build("WebAssembly, vectors", (*wasm, "-msimd128"), ("portable", "wasm"), run)


def print_table(folder: Path) -> bool:
    """Print a line for every build and kernel; whether all have the same digests."""
    model, digests = folder / "model", set()
    write_model(model)
    for number, build in enumerate(builds(folder)):
        program = folder / f"digests{number}"
        compile_program(program, build.compiler)
        for kernel in build.kernels:
            if printed := run_program(program, model, kernel, build.run):
                digests.add(digest := hashlib.sha256(printed.encode()).hexdigest()[:16])
                print(f"{build.name:24}{kernel:10}{printed.count(chr(10))} lines {digest}")
                sys.stdout.flush()
    return len(digests) == 1


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", metavar="CC", help="only run with CC's thread sanitizer")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not arguments.threads:
            sys.exit(None if print_table(folder) else "the digests differ")
        write_model(folder / "model", 3)
        flags = ("-O1", "-g", "-fsanitize=thread", *THREADS)
        compile_program(folder / "digests", (arguments.threads, *flags))
        lines = run_program(folder / "digests", folder / "model").count("\n")
        print(f"four threads with the thread sanitizer: {lines} lines")


if __name__ == "__main__":
    main()
