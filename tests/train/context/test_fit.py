"""Fitting a context model, from the command to a stream's bits."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from click.testing import CliRunner

from codec.cli.app import main
from codec.corpus.index import scan
from codec.entropy.coding import decode_packets, encode_packets
from codec.entropy.context_file import load_context
from codec.errors import ConfigError, ModelError
from codec.network.model import Codec
from codec.network.weights import load_codec
from codec.registry import load_model
from tests.conftest import LAPPED, RECORDING
from train.context.fit import (
    CHECKPOINT,
    code_values,
    draw_counts,
    fit_context,
    learning_rate,
    mean_bits,
)
from train.recipe.loading import to_toml
from train.recipe.sections import TrainConfig
from train.run.loop import fit


def test_a_fitted_model_saves_bits(
    model_folder: Path, training_folder: Path, training_recipe: TrainConfig, tmp_path: Path
) -> None:
    copy = tmp_path / "model"
    copy.mkdir()
    for name in ("config.json", "weights.safetensors"):
        (copy / name).write_bytes((model_folder / name).read_bytes())
    recipe = dataclasses.replace(training_recipe, model=LAPPED)
    (tmp_path / "r.toml").write_text(to_toml(recipe))
    words = ["fit-context", copy, "--data", training_folder, "--recipe", tmp_path / "r.toml"]
    settings = ("steps=60", "lr=0.01", "width=16", "hidden=12", "entry_dim=4")
    words += [word for each in settings for word in ("--set", f"context.{each}")]
    run = CliRunner().invoke(main, list(map(str, words)))
    assert run.exit_code == 0, run.output
    codec = load_codec(copy)
    context = load_context(copy, codec.fingerprint)
    assert context is not None and context.shape.width == 16
    speech, rate = soundfile.read(RECORDING, stop=72_000, dtype="float32")
    speech = soxr.resample(speech, rate, LAPPED.sample_rate)
    codes = codec.encode(torch.from_numpy(speech[None, None]))[:, None].numpy()
    (payload,), _ = encode_packets(context, codes)
    assert 8 * len(payload) < 0.9 * 5 * codes.size
    (decoded,), _ = decode_packets(context, [(payload, codes.shape[3])], 1, codes.shape[2])
    assert np.array_equal(decoded, codes[0])


def test_a_fit_repeats_itself(
    lapped: Codec, training_folder: Path, training_recipe: TrainConfig, tmp_path: Path
) -> None:
    context = dataclasses.replace(training_recipe.context, steps=3, width=8, hidden=4)
    recipe = dataclasses.replace(training_recipe, model=LAPPED, context=context)
    index = scan(training_folder)
    first, second = (fit_context(recipe, lapped, index, tmp_path) for _ in range(2))
    assert first.identity == second.identity


def test_an_interrupted_fit_continues_to_the_bit(
    lapped: Codec,
    training_folder: Path,
    training_recipe: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    context = dataclasses.replace(training_recipe.context, steps=5, width=8, hidden=4)
    recipe = dataclasses.replace(training_recipe, model=LAPPED, context=context)
    index = scan(training_folder)
    monkeypatch.setattr("train.context.fit.CHECKPOINT_EVERY", 2)
    with caplog.at_level("INFO"):
        whole = fit_context(recipe, lapped, index, tmp_path)
    assert "bits per code, first codebook to last:" in caplog.text and "of 5" in caplog.text
    assert not (tmp_path / CHECKPOINT).exists()
    steps = []

    def interrupted(*arguments: object) -> torch.Tensor:
        steps.append(1)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return mean_bits(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("train.context.fit.mean_bits", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit_context(recipe, lapped, index, tmp_path)
    again = fit_context(recipe, lapped, index, tmp_path)
    assert len(steps) == 4 + 3 and again.identity == whole.identity


def test_a_run_ends_with_a_context_model_and_a_new_decoder_keeps_it(
    training_folder: Path, training_recipe: TrainConfig, tmp_path: Path
) -> None:
    context = dataclasses.replace(training_recipe.context, steps=2, width=8, hidden=4)
    run = dataclasses.replace(training_recipe.run, steps=2, validate_every=2)
    recipe = dataclasses.replace(training_recipe, context=context, run=run)
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    fit(recipe, training_folder, first)
    identity = load_model(first).context
    assert identity is not None
    frozen = dataclasses.replace(recipe.optimizer, freeze=("encoder", "quantizer"))
    for out, optimizer in ((second, frozen), (third, recipe.optimizer)):
        tuned = dataclasses.replace(recipe, optimizer=optimizer)
        fit(tuned, training_folder, out, initial_model=str(first))
    kept, other = (load_model(folder).context for folder in (second, third))
    assert kept is not None and kept.identity == identity.identity
    assert other is not None and other.identity != identity.identity


def test_what_cannot_be_fitted_is_said(
    vae: Codec, training_folder: Path, training_recipe: TrainConfig, tmp_path: Path
) -> None:
    index = scan(training_folder)
    with pytest.raises(ConfigError, match="continuous latents"):
        fit_context(training_recipe, vae, index, tmp_path)
    with pytest.raises(ModelError, match="no fingerprint"):
        fit_context(training_recipe, Codec(LAPPED), index, tmp_path)


@pytest.mark.parametrize("name", ["lapped", "fsq"])
def test_values_of_codes_add_up_to_the_latent(name: str, request: pytest.FixtureRequest) -> None:
    codec: Codec = request.getfixturevalue(name)
    values = code_values(codec)
    codes = torch.randint(codec.config.codebook_size, (1, codec.config.num_codebooks, 7))
    books = torch.arange(len(values))[:, None]
    zero = codec.dequantize(torch.zeros_like(codes[..., :1]))
    total = (values[books, codes[0]] - values[:, :1]).sum(0) + zero[0]
    torch.testing.assert_close(total, codec.dequantize(codes)[0], rtol=1e-4, atol=1e-4)


def test_numbers_of_codes_vary_where_errors_do() -> None:
    rng = np.random.default_rng(0)
    # The first half of each sequence has little to code.
    errors = np.cumprod(np.full((40, 6, 20), 0.5), axis=1)
    errors[:, :, :10] *= 0.01
    counts, variable = draw_counts(rng, errors)
    assert counts.shape == (40, 20) and counts.min() >= 1 and counts.max() == 6
    assert 5 < variable.sum() < 30
    assert (counts[~variable] == counts[~variable, :1]).all()
    assert (counts[variable, :10].mean(1) <= counts[variable, 10:].mean(1)).all()
    assert counts[variable, :10].mean() < counts[variable, 10:].mean() - 1


def test_the_rate_rises_stays_and_falls() -> None:
    rates = [learning_rate(step, 1000) for step in range(1000)]
    assert rates[0] < 0.01 and rates[199] == rates[500] == 1 and rates[-1] < 0.01
