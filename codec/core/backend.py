"""Builds the core, and packages with it: setuptools, after a C compiler.

``pip install .`` calls the functions at the end (PEP 517 and 660). In a checkout that is used
without an installation the library is built in its place by

    python codec/core/backend.py

The compiler is ``$CC``, cc, gcc or clang, whichever is the first that works. Without any of them it
is the one of the package ``ziglang``, which pip brings for the time of the build.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CORE = Path(__file__).resolve().parent
SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
LIBRARY = CORE / "_lib" / f"aecodec{SUFFIX}"
"""The compiled library."""

# Results are the same to the bit on every processor: the compiler may neither reorder sums nor join
# a product and a sum. It may use no instructions that another processor of this kind lacks: kernels
# that have more of them say so, and are chosen when the library is loaded.
FLAGS = (
    *("-std=c11", "-O3", "-fno-fast-math", "-ffp-contract=off"),
    # Nothing asks for errno or for exceptions of floating point; without them loops become vectors.
    *("-fno-math-errno", "-fno-trapping-math"),
    *("-fvisibility=hidden", "-g0", "-Wall", "-Wextra"),
)
SHARED = ("-shared",) if sys.platform == "win32" else ("-shared", "-fPIC")
MACOS = "11.0"
"""The oldest macOS for which it is compiled."""
ZIG = (sys.executable, "-m", "ziglang", "cc")


def compile_library(
    output: Path = LIBRARY, compiler: Sequence[str] = (), flags: Sequence[str] = ()
) -> Path:
    """Compile the library.

    Args:
        output: where to write it.
        compiler: command of a C compiler; the one that `find_compiler` finds if empty.
        flags: further arguments.

    Raises:
        RuntimeError: there is no compiler, or it fails.
    """
    command = list(compiler or find_compiler())
    output.parent.mkdir(parents=True, exist_ok=True)
    # Programs that run keep the library that they have loaded, and none finds half of one.
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        written = Path(folder, output.name)
        sources = sorted(map(str, (CORE / "src").glob("*.c")))
        includes = ("-I", str(CORE / "include"))
        arguments = [*FLAGS, *SHARED, *flags, *includes, *sources, "-o", str(written)]
        found = subprocess.run(
            [*command, *arguments], env=_environment(folder), capture_output=True, text=True
        )
        if found.returncode:
            raise RuntimeError(f"{shlex.join(command)} cannot compile the core:\n{found.stderr}")
        written.replace(output)
    return output


def find_compiler() -> tuple[str, ...]:
    """The command of a C compiler.

    Raises:
        RuntimeError: there is none.
    """
    if command := _system_compiler():
        return command
    if importlib.util.find_spec("ziglang") is None:
        raise RuntimeError(
            "no C compiler was found: install gcc or clang, name one in CC, or pip install ziglang"
        )
    # Of itself it would compile for this very processor.
    return (*ZIG, "-mcpu=baseline")


def _system_compiler() -> tuple[str, ...]:
    """The first compiler that compiles something; none where there is none."""
    named = os.environ.get("CC", "")
    for command in (shlex.split(named),) if named else (["cc"], ["gcc"], ["clang"]):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "trial.c")
            source.write_text("#include <stdlib.h>\nint trial(void) { return abs(-1); }\n")
            arguments = (*SHARED, str(source), "-o", str(source.with_suffix(SUFFIX)))
            try:
                subprocess.run([*command, *arguments], capture_output=True, check=True)
            except (OSError, subprocess.CalledProcessError):
                continue
            return tuple(command)
    return ()


def _environment(folder: str) -> dict[str, str]:
    """The environment of the compiler; zig keeps what it compiles in a folder, else at home."""
    caches = {"ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder}
    return {**os.environ, **caches, "MACOSX_DEPLOYMENT_TARGET": MACOS}


def _platform() -> str:
    """The platform in the name of a wheel."""
    if sys.platform == "darwin":  # Python may be for several processors, the library is for one
        return f"macosx_{MACOS.replace('.', '_')}_{platform.machine()}"
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


def _setuptools() -> Any:
    """The backend that does the rest; to compile it is not needed."""
    from setuptools import build_meta

    return build_meta


def _compiler_packages() -> list[str]:
    return [] if _system_compiler() else ["ziglang"]


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    return [*_setuptools().get_requires_for_build_wheel(config_settings), *_compiler_packages()]


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    return [*_setuptools().get_requires_for_build_editable(config_settings), *_compiler_packages()]


def build_wheel(
    wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None
) -> Any:
    compile_library()
    # One library for all versions of Python, which it knows nothing of.
    named = {**(config_settings or {}), "--build-option": ["--plat-name", _platform()]}
    return _setuptools().build_wheel(wheel_directory, named, metadata_directory)


def build_editable(
    wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None
) -> Any:
    compile_library()
    return _setuptools().build_editable(wheel_directory, config_settings, metadata_directory)


def __getattr__(name: str) -> Any:
    """The other functions of a backend."""
    return getattr(_setuptools(), name)


if __name__ == "__main__":
    try:
        print(compile_library())
    except RuntimeError as error:
        sys.exit(str(error))
