import ctypes
import mmap
import sys
from pathlib import Path

import pytest

from codec.engines.memory import ask_for_huge_pages, give_back_memory

SIZE = 1 << 25
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")


def flags_of(address: int) -> list[str]:
    """The kernel's flags of the memory at an address."""
    here = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *rest = line.split()
        if "-" in name:
            begin, end = (int(each, 16) for each in name.split("-"))
            here = begin <= address < end
        elif here and name == "VmFlags:":
            return rest
    raise AssertionError("no such memory")


@LINUX
def test_what_is_in_use_is_advised_and_stays_as_it_is() -> None:
    if not Path("/sys/kernel/mm/transparent_hugepage").exists():
        pytest.skip("this kernel has no huge pages")
    full = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE)
    full.write(b"x" * SIZE)
    empty = mmap.mmap(-1, 64 * SIZE, flags=mmap.MAP_PRIVATE)
    empty.write(b"y")
    empty.madvise(mmap.MADV_DONTFORK)  # which makes it a block of its own
    in_full, in_empty = (ctypes.addressof(ctypes.c_char.from_buffer(e)) for e in (full, empty))
    ask_for_huge_pages()
    assert "hg" in flags_of(in_full + SIZE // 2)
    assert "hg" not in flags_of(in_empty + 32 * SIZE)
    assert full[:] == b"x" * SIZE and empty[:2] == b"y\0"


@LINUX
def test_free_memory_is_given_back() -> None:
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("this C library keeps it")

    def resident() -> int:
        return mmap.PAGESIZE * int(Path("/proc/self/statm").read_text().split()[1])

    # Small blocks lie on the heap; one of them above the others keeps it from shrinking by itself.
    blocks = [b"x" * 50_000 for _ in range(1_000)]
    last = b"y" * 50_000
    before = resident()
    blocks.clear()
    give_back_memory()
    assert resident() < before - 40_000_000
    assert last == b"y" * 50_000


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: pytest.fail("not to be called"))
    give_back_memory()
    ask_for_huge_pages()
