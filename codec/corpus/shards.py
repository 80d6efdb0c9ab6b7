"""Tar shards in WebDataset format of any origin: what is read of them, and what is rejected."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator

SHARD_SUFFIX = ".tar"
# What tarfile raises for archives that are damaged or forged.
ARCHIVE_FAULTS = (OSError, tarfile.TarError, ValueError, OverflowError, MemoryError, RecursionError)


def members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members of an archive in their order.

    Raises:
        tarfile.ReadError: members overlap; a forged archive of such would be read forever.
    """
    last = -1
    for member in archive:
        if member.offset <= last:
            raise tarfile.ReadError("its members overlap")
        last = member.offset
        yield member


def member_fault(member: tarfile.TarInfo, size: int) -> str:
    """Why a member of an archive of ``size`` bytes is not read; empty if it is.

    Only files that the archive stores as they are, so that none is longer than the archive.
    """
    if member.issym() or member.islnk():
        return "is a link in an archive: store the file itself"
    if not member.isreg():
        return "is not a regular file"
    if member.issparse():
        return "is a sparse member of an archive: store it without --sparse"
    if not 0 <= member.size <= size - member.offset_data:
        return "is cut short: its shard is truncated"
    return ""
