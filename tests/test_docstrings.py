"""Every example in a docstring runs, and the public interface has examples."""

from __future__ import annotations

import doctest
import importlib
import io
from pathlib import Path

import pytest

import codec
from tests.conftest import REPOSITORY

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

WITH_EXAMPLE = [
    *(f"codec.{name}" for name in codec.__all__),
    "codec.corpus.clips.clip_length",
    "codec.corpus.clips.read_clip",
    "codec.corpus.index.Clip",
    "codec.corpus.index.open_clip",
    "codec.corpus.index.scan",
    "codec.corpus.detokenize.detokenize",
    *(
        f"codec.corpus.patterns.{way}_{name}"
        for name in ("parallel", "delay", "flat")
        for way in ("to", "from")
    ),
    "codec.corpus.sources.find_recordings",
    "codec.corpus.tokenize.Tokenizer",
    "codec.corpus.tokenize.tokenize",
    "codec.corpus.tokens.format.Tokens",
    "codec.corpus.tokens.reading.read_tokens",
    "codec.io.audio.Resampler",
    "codec.io.audio.create_audio",
    "codec.io.audio.open_audio",
    "codec.evaluation.mel.mel_filterbank",
    "codec.evaluation.mel.stft",
    "codec.evaluation.metrics.mel_distance",
    "codec.evaluation.metrics.short_time_intelligibility",
    "codec.evaluation.metrics.si_sdr",
]
"""Public names whose docstring must contain an example."""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


MODULES = [
    module_name(path)
    for root in ("codec", "train", "benchmarks")
    for path in sorted((REPOSITORY / root).rglob("*.py"))
    if ">>>" in path.read_text("utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a temporary folder, and with the names of the module at hand."""
    module = importlib.import_module(name)
    examples = [case for case in doctest.DocTestFinder().find(module) if case.examples]
    assert examples, f"{name} contains '>>>', but not in the docstring of a public name"
    for case in examples:
        folder = tmp_path / case.name
        folder.mkdir()
        monkeypatch.chdir(folder)
        report = io.StringIO()
        result = doctest.DocTestRunner(optionflags=OPTIONS).run(case, out=report.write)
        assert not result.failed, report.getvalue()


@pytest.mark.parametrize("name", WITH_EXAMPLE)
def test_public_names_have_an_example(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    documented = getattr(importlib.import_module(module), attribute)
    assert ">>>" in (documented.__doc__ or ""), f"{name} has no example in its docstring"
