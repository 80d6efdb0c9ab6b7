import ctypes
import sys
from pathlib import Path

import pytest

from codec.engines.huge_pages import huge_pages

SIZE = 1 << 25


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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc/self/smaps")
def test_memory_that_is_allocated_meanwhile_is_advised() -> None:
    with huge_pages():
        block = ctypes.create_string_buffer(SIZE)
    middle = ctypes.addressof(block) + SIZE // 2
    if not Path("/sys/kernel/mm/transparent_hugepage").exists():
        pytest.skip("this kernel has no huge pages")
    assert "hg" in flags_of(middle)
    assert not any(block.raw[:: SIZE // 64])  # and it is as it was


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: pytest.fail("not to be called"))
    with huge_pages():
        ctypes.create_string_buffer(SIZE)


def test_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), huge_pages():
        raise ZeroDivisionError
