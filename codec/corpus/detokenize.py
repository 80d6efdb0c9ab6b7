"""Decode tokens to audio files."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from codec.arguments import check_path, check_type
from codec.corpus.index import fault
from codec.corpus.tokens.format import Tokens
from codec.corpus.tokens.naming import FileNames
from codec.corpus.tokens.reading import read_each
from codec.corpus.tokens.writing import write_stream
from codec.corpus.workers import in_order
from codec.engines.base import Engine
from codec.errors import CodecError, ModelError
from codec.files.decode import decode_file
from codec.io.outputs import check_writable
from codec.registry import Model, ModelLike, as_model, packaged_model

Report = Callable[[str, str], None]
"""Called with the id of a recording, or the name of a shard, and the reason why it failed; empty if
it did not."""


def detokenize(
    source: str | Path,
    out: str | Path,
    *,
    model: ModelLike | None = None,
    suffix: str = ".wav",
    workers: int = 1,
    force: bool = False,
    report: Report | None = None,
) -> int:
    """Decode all recordings in a folder of tokens, one of its shards or a ``.codes`` file.

    Each becomes the audio file that `codec.decode_file` makes of its stream, under its id. What
    cannot be read or decoded is reported and ends nothing.

    Args:
        source: see `codec.corpus.read_tokens`.
        out: folder of the audio files, created if missing.
        model: the model of the tokens; None finds it among the packaged models.
        suffix: format of the audio files.
        workers: number of processes, see `codec.corpus.workers.in_order`.
        force: replace existing files.
        report: called for every recording.

    Returns:
        How many recordings failed; a shard that cannot be read to its end counts once.

    Raises:
        CodecError: no tokens can be read, or they were made with another model.

    Example:
        >>> import soundfile
        >>> from codec.corpus.tokenize import tokenize
        >>> Path("corpus/birds").mkdir(parents=True)
        >>> soundfile.write("corpus/birds/owl.flac", [0.0] * 11_025, 11_025)
        >>> _ = tokenize(["corpus"], "tokens")
        >>> detokenize("tokens", "decoded")
        0
        >>> soundfile.info("decoded/birds/owl.wav").frames
        11025
    """
    source, out = check_path("source", source), check_path("out", out)
    check_type("suffix", suffix, str)
    if out.exists() and not out.is_dir():
        raise CodecError(f"{out} is a file: give a folder to --out")
    rows, failures = read_each(source), 0

    def count(number: str, reason: str) -> None:
        nonlocal failures
        failures += bool(reason)
        if report is not None:
            report(number, reason)

    if (first := _first_tokens(rows, count)) is not None:
        engine = _model_of(first, model).engine
        jobs = _jobs(itertools.chain([("", first)], rows), out, suffix, count)
        for number, reason in in_order(engine, partial(_decode, force), jobs, workers):
            count(number, reason)
    return failures


def _first_tokens(rows: Iterator[tuple[str, Tokens | CodecError]], count: Report) -> Tokens | None:
    """The first tokens that can be read; what comes before them is counted."""
    faults: list[tuple[str, CodecError]] = []
    first = None
    for name, row in rows:
        if isinstance(row, Tokens):
            first = row
            break
        faults.append((name, row))
    if first is None and len(faults) == 1:
        raise faults[0][1]
    for name, error in faults:
        count(name, str(error))
    return first


def _model_of(tokens: Tokens, model: ModelLike | None) -> Model:
    fingerprint = bytes.fromhex(tokens.kind.fingerprint)
    loaded = packaged_model(fingerprint) if model is None else as_model(model)
    if loaded.spec.fingerprint != fingerprint:
        raise ModelError(
            f"the tokens were made with model {fingerprint.hex()}, this one is "
            f"{loaded.spec.fingerprint.hex()}: give the right folder with --model"
        )
    return loaded


def _jobs(
    rows: Iterable[tuple[str, Tokens | CodecError]], out: Path, suffix: str, count: Report
) -> Iterator[tuple[Tokens, Path]]:
    """Tokens, and where their audio is written; what cannot be read is counted."""
    name_of = FileNames(suffix)
    for name, tokens in rows:
        if isinstance(tokens, Tokens):
            yield tokens, out / f"{name_of(tokens.id)}{suffix}"
        else:
            count(name, str(tokens))


def _decode(force: bool, engine: Engine, job: tuple[Tokens, Path]) -> tuple[str, str]:
    tokens, target = job
    try:
        check_writable(target, force=force)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_stream(tokens, stream := io.BytesIO())
        stream.seek(0)
        decode_file(stream, target, model=engine, force=force)
    except CodecError as error:
        return tokens.id, str(error)
    except OSError as error:
        return tokens.id, f"{target} cannot be written: {error.strerror or error}"
    except Exception as error:  # no recording may end the work
        return tokens.id, fault(tokens.id, error)
    return tokens.id, ""
