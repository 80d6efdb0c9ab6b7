"""Builds the core as WebAssembly, which the page of ``aecodec web`` runs.

    pip install ziglang
    python -m codec.core.wasm

The result is a part of the package, because browsers and plain installs have no compiler. It ends
with a digest of what it was made of, so that a test can tell whether it is that of these sources.
"""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

from codec.core.backend import CORE, FLAGS, ZIG

OUTPUT = CORE.parent / "web" / "aecodec.wasm"
TARGET = (
    *("-target", "wasm32-wasi", "-mexec-model=reactor"),
    # All browsers of the last years have vectors of 128 bits, and a module is refused as a whole.
    "-msimd128",
)
LINK = (
    *("--strip-all", "--export-dynamic", "--export=malloc", "--export=free"),
    "--stack,1048576",  # bytes, at the beginning: what goes beyond them is no address
)
SECTION = b"\x07sources"
"""Name of the section with the digest."""


def build(output: Path = OUTPUT) -> Path:
    """Compile the core.

    Raises:
        RuntimeError: ziglang is not installed, or fails.
    """
    if importlib.util.find_spec("ziglang") is None:
        raise RuntimeError("a compiler for WebAssembly is needed: pip install ziglang")
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, output.name)
        sources = sorted(map(str, (CORE / "src").glob("*.c")))
        linked = [f"-Wl,{option}" for option in LINK]
        includes = ("-I", str(CORE / "include"))
        arguments = [*TARGET, *FLAGS, *linked, *includes, *sources, "-o", str(written)]
        found = subprocess.run([*ZIG, *arguments], capture_output=True, text=True)
        if found.returncode:
            raise RuntimeError(f"ziglang cannot compile the core:\n{found.stderr}")
        output.write_bytes(written.read_bytes() + digest_section())
    return output


def digest_section() -> bytes:
    """A custom section with the digest of the sources, which belongs at the end of a module."""
    digest = hashlib.sha256(repr((TARGET, FLAGS, LINK)).encode())
    for path in sorted([*CORE.glob("src/*.[ch]"), *CORE.glob("include/*.h")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    content = SECTION + digest.digest()
    return bytes([0, len(content)]) + content


if __name__ == "__main__":
    try:
        print(build())
    except RuntimeError as error:
        sys.exit(str(error))
