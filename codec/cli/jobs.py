"""Inputs and outputs of commands that work on many files."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from codec.cli.errors import Failure, WrongUse, clear_errors, in_one_line
from codec.errors import CodecError
from codec.io.pipes import is_terminal
from codec.threads import in_threads


@dataclass(frozen=True)
class Files:
    """Inputs and outputs of a command, as the user gives them."""

    paths: tuple[str, ...]  # an input and an output, or with `out_dir` any number of inputs
    out_dir: Path | None
    force: bool  # whether outputs replace existing files

    def pairs(self, suffix: str, wanted: Collection[str]) -> list[tuple[Path, Path]]:
        """Each input with its output; folders are searched for files of the ``wanted`` suffixes."""
        paths, out_dir = self.paths, self.out_dir
        if out_dir is None:
            if len(paths) != 2:
                raise WrongUse(
                    "name one input and one output, or any number of inputs and --out-dir"
                )
            if paths[1].endswith("/"):
                raise CodecError(f"{paths[1]} is a folder: name a file in it, or give --out-dir")
            return [(Path(paths[0]), Path(paths[1]))]
        if out_dir.exists() and not out_dir.is_dir():
            raise CodecError(f"{out_dir} is a file: give a folder to --out-dir")
        sources: dict[Path, Path] = {}
        for path in map(Path, paths):
            found = [path]
            if path.is_dir():
                inside = (each for each in path.rglob("*") if each.suffix.lower() in wanted)
                found = sorted(each for each in inside if each.is_file())
                if not found:
                    raise CodecError(
                        f"{path} holds no file to work on: name files, or another folder"
                    )
            for source in found:
                inner = source.relative_to(path) if path.is_dir() else Path(source.name)
                target = out_dir / inner.with_suffix(suffix)
                if sources.setdefault(target, source) != source:
                    raise CodecError(
                        f"{sources[target]} and {source} would both become {target}: "
                        "use another --out-dir for one of them"
                    )
        return [(source, target) for target, source in sources.items()]

    def run(
        self,
        pairs: list[tuple[Path, Path]],
        work: Callable[[Path, Path, Callable[[float], None]], None],
        *,
        at_once: int = 1,
    ) -> None:
        """Work on each input and output; a bad file is reported, and the others continue.

        The work also gets a function to report progress. So many files are worked on ``at_once``.
        """
        stopped = threading.Event()

        def succeeds(pair: tuple[Path, Path]) -> bool:
            source, target = pair
            try:
                with clear_errors(), progress_bar(in_one_line(source.name)) as progress:

                    def report(share: float) -> None:
                        if stopped.is_set():  # a thread does not hear Ctrl-C itself
                            raise KeyboardInterrupt
                        progress(share)

                    if self.out_dir is not None:
                        target.parent.mkdir(parents=True, exist_ok=True)
                    work(source, target, report)
            except Failure as failure:
                if len(pairs) == 1:
                    raise
                click.echo(f"aecodec: {in_one_line(failure.about(source))}", err=True)
                return False
            return True

        succeeded = in_threads(succeeds, pairs, at_once, stopped.set)
        failures = [source for (source, _), good in zip(pairs, succeeded, strict=True) if not good]
        if failures:
            names = ", ".join(map(str, failures))
            raise Failure(f"{len(failures)} of {len(pairs)} files failed: {names}")


@contextmanager
def progress_bar(name: str) -> Iterator[Callable[[float], None]]:
    """A progress bar on a terminal, nothing otherwise."""
    if not is_terminal():
        yield lambda share: None
        return
    from tqdm import tqdm

    layout = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    with tqdm(total=1.0, desc=name, leave=False, bar_format=layout) as bar:
        yield lambda share: bar.update(share - bar.n)
