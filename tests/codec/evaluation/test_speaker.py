"""The similarity of speakers: its rules with random weights, its meaning with the real ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from codec.arrays import Samples
from codec.errors import MissingPackageError
from codec.evaluation import speaker
from codec.evaluation.speaker import can_compare_speakers, embed_voice, speaker_similarity
from tests.conftest import RECORDING, sound

RATE = 24_000


@pytest.fixture(scope="module")
def speech() -> Samples:
    samples, _ = soundfile.read(RECORDING, dtype="float32", stop=4 * RATE + 7)
    return np.asarray(samples, np.float32)


@pytest.fixture
def random_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch.manual_seed(0)
    parts = {"lstm": torch.nn.LSTM(40, 256, 3), "linear": torch.nn.Linear(256, 256)}
    weights = {
        f"{part}.{name}": value.detach()
        for part, module in parts.items()
        for name, value in module.named_parameters()
    }
    other = {"similarity_weight": torch.ones(1)}
    torch.save({"step": 1, "model_state": weights | other}, tmp_path / "pretrained.pt")
    monkeypatch.setattr(speaker, "_weights_file", lambda: tmp_path / "pretrained.pt")
    speaker._encoder.cache_clear()
    yield
    speaker._encoder.cache_clear()


@pytest.mark.usefixtures("random_weights")
def test_embeddings_have_unit_length_and_do_not_depend_on_level(speech: Samples) -> None:
    embedding = embed_voice(speech, RATE)
    assert embedding.shape == (256,)
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)
    quiet: Samples = speech * np.float32(0.1)
    assert embed_voice(quiet, RATE) @ embedding == pytest.approx(1, abs=1e-4)
    assert speaker_similarity(speech, speech, RATE) == pytest.approx(1, abs=1e-5)


@pytest.mark.usefixtures("random_weights")
@pytest.mark.parametrize("length", [0, 1, round(1.6 * RATE) - 1])
def test_less_than_one_part_has_no_similarity(speech: Samples, length: int) -> None:
    assert speaker_similarity(speech[:length], speech, RATE) is None
    assert speaker_similarity(speech, speech[:length], RATE) is None


@pytest.mark.usefixtures("random_weights")
def test_one_part_and_silence(speech: Samples) -> None:
    part = speech[: round(1.6 * RATE)]
    assert speaker_similarity(part, part, RATE) == pytest.approx(1, abs=1e-5)
    assert speaker_similarity(np.zeros_like(part), part, RATE) is None


def test_missing_weights_name_the_package(speech: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speaker, "_weights_file", lambda: None)
    speaker._encoder.cache_clear()
    assert not can_compare_speakers()
    with pytest.raises(MissingPackageError, match="pip install --no-deps resemblyzer"):
        speaker_similarity(speech, speech, RATE)


@pytest.mark.skipif(not can_compare_speakers(), reason="pip install --no-deps resemblyzer")
def test_one_voice_is_more_similar_to_itself_than_to_noise(speech: Samples) -> None:
    half = len(speech) // 2
    same = speaker_similarity(speech[:half], speech[half:], RATE)
    noise = speaker_similarity(sound(len(speech))[0], speech, RATE)
    assert same is not None and noise is not None and same > 0.75 > noise
