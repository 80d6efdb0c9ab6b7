"""One objective for training, validation and benchmarks, and a table that a loss is added to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import training as training_benchmark
from codec.corpus.index import scan
from codec.evaluation.mel import MEL_WINDOWS
from codec.settings import settings_of
from tests.conftest import REPOSITORY, sound
from train.objective import losses
from train.objective.losses import LOSSES, Input, match_level
from train.objective.objective import Objective
from train.recipe.loading import load_recipe, to_toml
from train.recipe.sections import LossConfig, TrainConfig
from train.run.devices import Devices, make_fabric
from train.run.loop import make_corpus
from train.run.state import new_state
from train.run.step import Trainer, set_up, train_step

RATE = 24_000
NONE = dict.fromkeys(LOSSES, 0.0)


def audio(seed: int = 0) -> Tensor:
    return torch.from_numpy(np.stack([sound(6_000, seed=seed), sound(6_000, seed=seed + 9)]))


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_of_weight_zero_is_not_computed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> Tensor:
        raise AssertionError(f"{name} was computed")

    everything = Objective(dict.fromkeys(LOSSES, 1.0), RATE)(audio(1), audio(2))
    others = dict.fromkeys(LOSSES, 1.0) | {name: 0.0}
    monkeypatch.setitem(LOSSES, name, losses.Loss(**(vars(LOSSES[name]) | {"function": fails})))
    found = Objective(others, RATE)(audio(1), audio(2))
    assert found == {key: everything[key] for key in LOSSES if key != name}


@pytest.mark.parametrize(
    ("name", "transforms"),
    [("waveform", 0), ("level", 0), ("mel", 2 * len(MEL_WINDOWS)), ("complex", 8), ("energy", 2)],
)
def test_transforms_that_no_loss_needs_are_not_computed(
    name: str, transforms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0
    spectrum = losses.spectrum

    def counted(*arguments: Tensor, hops: int = 4) -> Tensor:
        nonlocal count
        count += 1
        return spectrum(arguments[0], arguments[1], hops)

    monkeypatch.setattr(losses, "spectrum", counted)
    Objective(NONE | {name: 1.0}, RATE)(audio(1), audio(2))
    assert count == transforms


def test_detail_is_compared_at_equal_level_and_level_is_not() -> None:
    objective = Objective(dict.fromkeys(LOSSES, 1.0), RATE)
    original, decoded = audio(1), audio(2)
    own, quieter = objective(decoded, original), objective(0.7 * decoded, original)
    for name, loss in LOSSES.items():
        if loss.input is Input.UNMATCHED:
            assert not torch.allclose(own[name], quieter[name], rtol=0.01)
        else:
            torch.testing.assert_close(own[name], quieter[name], rtol=1e-3, atol=1e-4)
    matched = match_level(decoded, original)
    assert own["waveform"] == LOSSES["waveform"].function(matched, original, RATE)


def test_views_are_random_within_the_crop() -> None:
    objective, rng = Objective(NONE | {"mel": 1.0}, RATE, windows_per_step=2), rng_of(0)
    views = [objective.draw_view(rng, 2_000) for _ in range(300)]
    assert {window for view in views for window in view.windows} == set(MEL_WINDOWS)
    for view in views:
        assert len(set(view.windows)) == 2
        assert 2_000 - view.start > max(view.windows) // 2
        assert objective(audio()[..., :2_000], audio(1)[..., :2_000], view)["mel"].isfinite()
    assert objective.draw_view(rng_of(1), 2_000) == objective.draw_view(rng_of(1), 2_000)


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_weights_of_a_recipe_are_those_of_the_table() -> None:
    described = settings_of(LossConfig)
    for name, loss in LOSSES.items():
        assert loss.name == name and loss.paper and loss.sees in described[name].description
    assert list(load_recipe("speech24k").loss.reconstruction) == list(LOSSES)


def test_the_training_benchmark_times_real_steps_with_the_objective_of_training(
    training_recipe: TrainConfig, training_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    evaluate = Objective.__call__

    def recorded(self: Objective, *arguments: Any) -> dict[str, Tensor]:
        calls.append(sys._getframe(1).f_code.co_name)
        return evaluate(self, *arguments)

    monkeypatch.setattr(Objective, "__call__", recorded)

    def trainer() -> Trainer:
        corpus = make_corpus(scan(training_folder), training_recipe)
        state = new_state(training_recipe)
        return set_up(training_recipe, make_fabric("fp32", Devices("cpu")), state, corpus)

    timed, plain = trainer(), trainer()
    figures = training_benchmark.parts_of_a_step(timed, 1)
    assert set(calls) == {"reconstruction_losses"}
    assert figures["discriminators"] < figures["losses"]
    assert 0 < sum(figures[part] for part in training_benchmark.PARTS) < figures["step"]
    # The timed steps are steps of training.
    batches = plain.corpus.batches(0)
    for _ in range(timed.state.step):
        train_step(plain, next(batches), 0.0)
    for one, other in zip(
        timed.state.codec.parameters(), plain.state.codec.parameters(), strict=True
    ):
        assert torch.equal(one, other)


THROWAWAY = """
import sys
from pathlib import Path
from typing import Any

from train.objective.losses import LOSSES, Input, Loss

LOSSES["peak"] = Loss(
    name="peak",
    paper="none",
    input=Input.WAVEFORM,
    sees="difference of the peaks",
    function=lambda a, b, sample_rate: (a.abs().amax(-1) - b.abs().amax(-1)).abs().mean(),
)

from train.recipe.loading import load_recipe
from train.run.devices import Devices
from train.run.loop import fit

data, *folders = map(Path, sys.argv[1:])
for folder in folders:
    fit(load_recipe(f"{folder}.toml"), data, folder, devices=Devices("cpu"))
"""


@pytest.mark.slow
def test_a_loss_that_is_added_to_the_table_trains_and_is_validated(
    training_recipe: TrainConfig, training_folder: Path, tmp_path: Path
) -> None:
    weights = {tmp_path / "without": 0.0, tmp_path / "with": 100.0}
    for out, weight in weights.items():
        text = to_toml(training_recipe).replace("[loss]", f"[loss]\npeak = {weight}")
        Path(f"{out}.toml").write_text(text)
    command = [sys.executable, "-c", THROWAWAY, *map(str, (training_folder, *weights))]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr.decode()
    logs = []
    for out, weight in weights.items():
        assert f"peak = {weight}" in (out / "training" / "recipe.toml").read_text()
        logs.append(json.loads((out / "training" / "log.jsonl").read_text().splitlines()[0]))
    without, with_peak = logs
    assert "peak" not in without and with_peak["peak"] > 0 and with_peak["share_peak"] > 0
    assert with_peak["loss"] > without["loss"]
    assert with_peak["validation_loss"] > without["validation_loss"]
