from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from codec.evaluation.evaluate import typical_codebook_counts
from codec.network.model import Codec
from tests.conftest import LAPPED, RECORDING
from train.recipe.sections import TrainConfig
from train.report.advice import advice
from train.report.summary import summary
from train.report.validation import validate
from train.run.state import make_objective

WELL = {
    "step": 100.0,
    "loss": 1.0,
    "validation_loss": 1.0,
    "validation_si_sdr": 5.0,
    "validation_mel": 0.3,
    "mel_1": 0.5,
    "mel_2": 0.4,
    "mel_4": 0.3,
    "frames": 200.0,
    "used_1": 0.9,
    "used_2": 1.0,
    "used_3": 1.0,
    "used_4": 1.0,
    "share_mel": 0.5,
}


def clips() -> list[tuple[str, Tensor]]:
    recording, _ = soundfile.read(RECORDING, dtype="float32", stop=48_000)
    quiet = np.zeros(30_000, np.float32)
    return [
        ("speech", torch.from_numpy(recording)[None, None]),
        ("silence", torch.from_numpy(quiet)[None, None]),
    ]


@pytest.mark.parametrize("bottleneck", ["vq", "fsq", "vae"])
def test_validation_measures_every_bitrate(training_recipe: TrainConfig, bottleneck: str) -> None:
    model = dataclasses.replace(training_recipe.model, bottleneck=bottleneck)
    recipe = dataclasses.replace(training_recipe, model=model)
    torch.manual_seed(0)
    codec = Codec(model).eval()
    report = validate(codec, clips(), make_objective(recipe))
    assert all(map(math.isfinite, report.values()))
    names = {f"validation_{name}" for name in ("si_sdr", "mel", "stoi", "loss")}
    assert names <= report.keys()
    if bottleneck == "vae":
        assert typical_codebook_counts(model) == [] and not any(
            name.startswith("used") for name in report
        )
    else:
        assert typical_codebook_counts(model) == [1, 2, 4]
        assert report["validation_mel"] == report["mel_4"] != report["mel_1"]
        codes = torch.cat([codec.encode(audio)[0] for _, audio in clips()], dim=1)
        for k in range(4):
            assert report[f"used_{k + 1}"] == len(codes[k].unique()) / 32
            assert 1 <= report[f"perplexity_{k + 1}"] <= len(codes[k].unique()) + 1e-3
            _, counts = codes[k].unique(return_counts=True)
            shares = (counts / counts.sum()).double()
            entropy = -float((shares * shares.log2()).sum())
            assert report[f"bits_{k + 1}"] == pytest.approx(entropy, abs=1e-5)
        bits = [report[f"bits_{k + 1}"] for k in range(4)]
        assert report["efficiency"] == pytest.approx(np.mean(bits) / 5)
        assert 0 <= report["efficiency"] <= 1
    text = summary(report | {"step": 5, "loss": 1.0}, model)
    if bottleneck != "vae":
        shown = " ".join(f"{report[f'bits_{k + 1}']:.1f}" for k in range(4))
        assert f"bits per code {shown}" in text
    assert "step 5" in text and text.count("SI-SDR") == max(1, len(typical_codebook_counts(model)))


def test_the_validation_loss_is_the_objective_of_the_run_on_the_same_audio(
    training_recipe: TrainConfig,
) -> None:
    """Level, tonality and the matching of levels included."""
    weights: dict[str, Any] = {"level": 3.0, "tonality": 0.5, "energy": 1.0}
    loss = dataclasses.replace(training_recipe.loss, **weights)
    recipe = dataclasses.replace(training_recipe, loss=loss)
    torch.manual_seed(0)
    codec = Codec(recipe.model).eval()
    with torch.no_grad():
        (_, audio), *_ = clips()
        decoded = codec.decode(codec.encode(audio), audio.shape[-1])
        losses = make_objective(recipe)(decoded, audio)
    assert losses.keys() == {name for name, weight in loss.reconstruction.items() if weight}
    expected = sum(getattr(loss, name) * float(value) for name, value in losses.items())
    report = validate(codec, [("speech", audio)], make_objective(recipe))
    assert report["validation_loss"] == pytest.approx(expected, rel=1e-5)


def test_few_frames_cause_no_advice_about_unused_entries(training_recipe: TrainConfig) -> None:
    """They cannot contain all entries of a codebook, however well it is used."""
    size = training_recipe.model.codebook_size
    few = WELL | {"frames": 2.0 * size, "used_1": 0.3}
    assert advice([few] * 5, training_recipe.model, 0.9) == []
    assert len(advice([few | {"frames": 4.0 * size}] * 5, training_recipe.model, 0.9)) == 1


def test_a_healthy_run_needs_no_advice(training_recipe: TrainConfig) -> None:
    assert training_recipe.model.num_codebooks == LAPPED.num_codebooks == 4
    assert advice([WELL] * 5, training_recipe.model, 0.9) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"used_3": 0.04}, "codebook 3 uses 4 % of its entries"),
        (
            {"validation_si_sdr": -2.0, "validation_mel": 0.4},
            "SI-SDR is -2.0 dB: phase is not learned",
        ),
        ({"validation_si_sdr": 4.0, "validation_mel": 0.25}, "SI-SDR falls while mel improves"),
        ({"validation_loss": 1.1}, "validation loss rose from 1.000 to 1.100"),
        ({"mel_4": 0.399}, "the upper 2 codebooks improve mel by only 0.2 %"),
        ({"share_mel": 0.95}, "95 % of the gradient comes from mel"),
    ],
)
def test_every_problem_is_reported_with_a_remedy(
    training_recipe: TrainConfig, change: dict[str, float], words: str
) -> None:
    found = advice([WELL] * 4 + [WELL | change], training_recipe.model, 0.9)
    assert len(found) == 1
    assert words in found[0] and ("raise" in found[0] or "lower" in found[0])
