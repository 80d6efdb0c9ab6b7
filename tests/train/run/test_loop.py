"""Training runs: learning, resuming to the bit, several processes, fine-tuning, stages."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch
from click.testing import CliRunner

from codec import decode_file, encode_file
from codec.cli.app import main
from codec.corpus.index import scan
from codec.errors import CodecError, ConfigError, ModelError
from codec.evaluation.metrics import si_sdr
from codec.export import export_model
from codec.network.weights import load_codec, save_codec
from codec.registry import load_model
from tests.conftest import LADDER, RECORDING, REPOSITORY
from train.objective.objective import Objective
from train.recipe.loading import load_recipe, recipe_of_model, to_toml
from train.recipe.sections import QuantizerConfig, TrainConfig
from train.run import codebooks, explosion, loop
from train.run.checkpoint import find_checkpoints
from train.run.devices import Devices, make_fabric
from train.run.errors import TrainingError
from train.run.explosion import ExplosionGuard
from train.run.identity import initialize_as_identity
from train.run.loop import fit
from train.run.state import new_state
from train.run.step import (
    Trainer,
    draw_num_codebooks,
    set_up,
    train_step,
    weight_gradients,
)


def changed(recipe: TrainConfig, **sections: dict[str, Any]) -> TrainConfig:
    """``recipe`` with some values of some sections replaced."""
    return dataclasses.replace(
        recipe,
        **{name: dataclasses.replace(getattr(recipe, name), **v) for name, v in sections.items()},
    )


def read_log(out: Path) -> list[dict[str, float]]:
    lines = (out / "training" / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def test_a_new_model_passes_low_frequencies(training_recipe: TrainConfig) -> None:
    """Before any training, and without quantization: this is what makes training quick."""
    codec = new_state(load_recipe("speech24k")).codec
    clock = torch.arange(48_000) / 24_000
    for frequency in (200, 1_000, 5_000):
        audio = 0.1 * torch.sin(2 * torch.pi * frequency * clock)[None, None]
        with torch.no_grad():
            decoded = codec.decode_latent(codec.encode_latent(audio), 48_000)
        assert si_sdr(decoded[..., 2000:-2000], audio[..., 2000:-2000]) > 15
    with pytest.raises(AssertionError):
        initialize_as_identity(new_state(dataclasses.replace(training_recipe, model=LADDER)).codec)


@pytest.mark.parametrize("balancer", [False, True])
def test_thirty_steps_lower_the_loss(
    training_recipe: TrainConfig, tmp_path: Path, balancer: bool
) -> None:
    recording, rate = soundfile.read(RECORDING, stop=24_000)
    (tmp_path / "data").mkdir()
    soundfile.write(tmp_path / "data" / "second.wav", recording, rate)
    recipe = changed(
        training_recipe,
        run={"steps": 30, "validate_every": 30},
        optimizer={"lr": 2e-3, "warmup_steps": 0},
        loss={"windows_per_step": 7, "balancer": balancer},
        data={"crop_frames": 300, "validation_seconds": 0.5},
        augment={"gain_db": (0.0, 0.0)},
    )
    fit(changed(recipe, run={"steps": 1}), tmp_path / "data", tmp_path / "one")
    fit(recipe, tmp_path / "data", tmp_path / "run")
    (after_one,), (after_all,) = read_log(tmp_path / "one"), read_log(tmp_path / "run")
    assert (after_one["step"], after_all["step"]) == (1, 30)
    assert after_all["validation_loss"] < 0.9 * after_one["validation_loss"]
    shares = [value for name, value in after_all.items() if name.startswith("share_")]
    assert len(shares) == 4 and sum(shares) == pytest.approx(1, abs=1e-4)


KINDS: dict[str, dict[str, dict[str, Any]]] = {
    "plain": {},
    "late codebooks": {"quantizer": {"start_step": 3}},
    "adversarial, balanced, half precision": {
        "adversarial": {
            "weight": 0.5,
            "start_step": 1,
            "generator_delay": 1,
            "channels": 2,
            "stft_windows": (256,),
        },
        "loss": {"balancer": True},
        "run": {"precision": "bf16"},
    },
    "second stage, equal gradients, run-in": {
        "model": {
            "decoder_fine_stride": 5,
            "decoder_fine_channels": 8,
            "decoder_fine_dilations": (1, 2),
        },
        "data": {"run_in_frames": 6},
        "quantizer": {"frame_dropout": 0.5},
        "adversarial": {
            "weight": 1.0,
            "share": 1.0,
            "generator_delay": 1,
            "channels": 2,
            "stft_windows": (256,),
            "precision": "bf16",
        },
    },
    "fsq": {"model": {"bottleneck": "fsq"}},
    "vae": {"model": {"bottleneck": "vae"}},
    "gru, plateau, half precision": {
        "model": {"recurrent": "gru"},
        "run": {"precision": "bf16"},
        "optimizer": {"schedule": "plateau", "plateau_patience": 1},
    },
    "lstm": {"model": {"recurrent": "lstm"}},
    "regularized": {"regularization": {"latent_noise": 0.1, "dropout": 0.2, "sparsity": 0.1}},
    "denoising": {
        "augment": {"noise_share": 1.0, "reverb_share": 0.5, "clip_share": 0.5, "mix": 0.5}
    },
}


def test_the_adversarial_gradient_has_its_share_of_the_length(
    training_recipe: TrainConfig,
) -> None:
    recipe = changed(
        training_recipe, adversarial={"weight": 1.0, "channels": 2, "stft_windows": (256,)}
    )
    balancer = new_state(recipe).balancer
    decoded, target = (torch.randn(3, 1, 2_000) for _ in range(2))
    decoded = (decoded * torch.tensor([1.0, 0.1, 10.0])[:, None, None]).requires_grad_()

    def gradient(share: float, *names: str) -> torch.Tensor:
        losses = {
            "mel": (decoded - target).abs().mean(),
            "adversarial": decoded.square().mean(),
            "feature": decoded.abs().mean(),
        }
        compared = {name: losses[name] for name in names if name == "mel"}
        judged = {name: losses[name] for name in names if name != "mel"}
        found, shares = weight_gradients(
            compared, judged, decoded, balancer, balances=False, share=share, with_shares=True
        )
        assert set(shares) == set(names) and sum(shares.values()) == pytest.approx(1)
        return found

    compared = gradient(1.0, "mel")
    opposed = gradient(0.0, "adversarial", "feature")
    for share in (0.5, 2.0):
        added = gradient(share, "mel", "adversarial", "feature") - compared
        ratios = added.flatten(1).norm(dim=1) / compared.flatten(1).norm(dim=1)
        assert ratios.tolist() == pytest.approx([share] * 3, rel=1e-3)
        cosine = torch.nn.functional.cosine_similarity(added.flatten(1), opposed.flatten(1))
        assert cosine.min() > 0.999


def test_losses_do_not_see_the_run_in(
    training_recipe: TrainConfig, training_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = changed(training_recipe, data={"run_in_frames": 7}, run={"steps": 1})
    seen = []
    evaluate = Objective.__call__

    def recorded(self: Objective, *arguments: Any) -> dict[str, torch.Tensor]:
        seen.append([each.shape[-1] for each in arguments[:2]])
        return evaluate(self, *arguments)

    monkeypatch.setattr(Objective, "__call__", recorded)
    trainer = set_up(
        recipe,
        make_fabric("fp32", Devices("cpu")),
        new_state(recipe),
        loop.make_corpus(scan(training_folder), recipe),
    )
    batch = trainer.corpus.batch(np.random.default_rng(0))
    assert batch.clean.shape[-1] == 60 * 40
    train_step(trainer, batch, 0.0)
    assert seen == [[53 * 40, 53 * 40]]


def test_a_larger_model_starts_from_a_smaller_one(
    training_recipe: TrainConfig, training_folder: Path, tmp_path: Path
) -> None:
    first, toml = tmp_path / "first", tmp_path / "larger.toml"
    fit(changed(training_recipe, run={"steps": 2}), training_folder, first)
    shape = {"num_codebooks": 6, "decoder_fine_stride": 10, "decoder_fine_channels": 8}
    toml.write_text(to_toml(changed(training_recipe, model=shape, run={"steps": 1})))
    words = ["train", toml, "--from", first, "--data", training_folder, "--out", tmp_path / "next"]
    run = CliRunner().invoke(main, list(map(str, words)))
    assert run.exit_code == 0, run.output
    before, after = load_codec(first), load_codec(tmp_path / "next")
    assert after.config.num_codebooks == 6 and after.delay == before.delay + 10
    assert after.decoder.fine is not None
    # One step at the start of the warm-up has changed next to nothing.
    name = "encoder.project.weight"
    torch.testing.assert_close(
        after.state_dict()[name], before.state_dict()[name], rtol=0.02, atol=0.01
    )


def assert_same_run(first: Path, second: Path) -> None:
    """To the last bit."""
    assert read_log(first) == read_log(second)
    weights = [out / "weights.safetensors" for out in (first, second)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@contextlib.contextmanager
def dying_in_step(number: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    real_step, count = train_step, 0

    def dies(*arguments: Any, **options: Any) -> dict[str, float]:
        nonlocal count
        count += 1
        if count == number:
            raise MemoryError
        return real_step(*arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(loop, "train_step", dies)
        yield


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_equals_one_never_stopped(
    training_recipe: TrainConfig,
    training_folder: Path,
    tmp_path: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = changed(training_recipe, **KINDS[kind])
    if kind == "denoising":
        recipe = changed(recipe, augment={"noise": str(training_folder)})
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    fit(recipe, training_folder, whole)

    with dying_in_step(5, monkeypatch):
        fit(recipe, training_folder, parts)
    fit(recipe, training_folder, parts, resume=True)
    assert_same_run(parts, whole)
    assert len(read_log(whole)) == 2
    assert load_codec(whole).config == recipe.model


def test_with_a_cooldown_the_length_of_a_run_can_be_chosen_late(
    training_recipe: TrainConfig,
    training_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = changed(
        training_recipe,
        optimizer={"schedule": "cooldown", "cooldown": 0.5, "warmup_steps": 1},
        quantizer={"restart_until": 0.5},
    )
    planned, open_ended = tmp_path / "planned", tmp_path / "open_ended"
    fit(recipe, training_folder, planned)
    with dying_in_step(4, monkeypatch):
        fit(changed(recipe, run={"steps": 1000}), training_folder, open_ended)
    fit(recipe, training_folder, open_ended, resume=True)
    assert_same_run(open_ended, planned)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "codec.cli", *map(str, arguments)]


ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY)}


def wait_for(process: subprocess.Popen[bytes], condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_a_killed_run_resumes_with_the_same_losses(
    training_recipe: TrainConfig, training_folder: Path, tmp_path: Path
) -> None:
    recipe = changed(
        training_recipe, run={"steps": 40, "validate_every": 20, "checkpoint_every": 7}
    )
    toml = tmp_path / "r.toml"
    toml.write_text(to_toml(recipe))
    out = tmp_path / "run"
    train = ["train", str(toml), "--data", str(training_folder), "--out", str(out)]
    with subprocess.Popen(command(*train), stderr=subprocess.DEVNULL, env=ENVIRONMENT) as process:
        wait_for(process, lambda: find_checkpoints(out / "training" / "checkpoints"))
        process.send_signal(signal.SIGKILL)
    result = CliRunner().invoke(main, [*train, "--resume"])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(out)
    fit(recipe, training_folder, tmp_path / "whole")
    assert read_log(out) == read_log(tmp_path / "whole")


@pytest.mark.slow
def test_a_run_that_is_asked_to_stop_saves_what_it_has(
    training_recipe: TrainConfig, training_folder: Path, tmp_path: Path
) -> None:
    recipe = changed(training_recipe, run={"steps": 10**6, "checkpoint_every": 10**6})
    toml = tmp_path / "r.toml"
    toml.write_text(to_toml(recipe))
    out = tmp_path / "run"
    train = command("train", toml, "--data", training_folder, "--out", out)
    with subprocess.Popen(train, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        wait_for(process, (out / "training" / "best").exists)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "nothing is lost, continue with --resume" in errors.decode()
    assert len(find_checkpoints(out / "training" / "checkpoints")) == 1
    assert load_codec(out).config == recipe.model


@pytest.mark.slow
def test_two_processes_train_one_model(
    training_recipe: TrainConfig, training_folder: Path, tmp_path: Path
) -> None:
    recipe = changed(
        training_recipe,
        run={"steps": 20, "validate_every": 10},
        quantizer={"start_step": 2, "restart_every": 3},
        adversarial={
            "weight": 0.5,
            "start_step": 5,
            "generator_delay": 3,
            "channels": 2,
            "stft_windows": (256,),
        },
        loss={"balancer": True},
    )
    toml = tmp_path / "r.toml"
    toml.write_text(to_toml(recipe))
    script = tmp_path / "both.py"
    script.write_text(
        "import os, sys, torch\n"
        "from safetensors.torch import save_file\n"
        "from codec.cli.app import main\n"
        "from train.run import loop\n"
        "run = loop.run\n"
        "def run_and_save(trainer, *rest):\n"
        "    run(trainer, *rest)\n"
        "    state = trainer.state\n"
        "    tensors = {f'c.{k}': v for k, v in state.codec.state_dict().items()}\n"
        "    tensors |= {f'a.{k}': v for k, v in state.average.codec.state_dict().items()}\n"
        "    discriminators = state.adversary.discriminators.state_dict()\n"
        "    tensors |= {f'd.{k}': v for k, v in discriminators.items()}\n"
        "    tensors['usage'] = state.codebooks.usage\n"
        f"    save_file(tensors, r'{tmp_path}/rank' + os.environ['RANK'])\n"
        "loop.run = run_and_save\n"
        "main()\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    arguments = ["train", toml, "--data", training_folder, "--out", tmp_path / "run"]
    result = subprocess.run(
        [*launch, str(script), *map(str, arguments), "--device", "cpu"],
        capture_output=True,
        check=False,
        env=ENVIRONMENT,
    )
    assert result.returncode == 0, result.stderr.decode()
    first, second = (safetensors.torch.load_file(tmp_path / f"rank{rank}") for rank in (0, 1))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    fresh = new_state(recipe).codec.state_dict()
    moved = [name for name, tensor in fresh.items() if not torch.equal(tensor, first[f"c.{name}"])]
    assert set(moved) == set(fresh)
    assert load_codec(tmp_path / "run").config == recipe.model
    assert len(read_log(tmp_path / "run")) == 2


def test_the_training_of_a_model_can_be_continued(
    training_recipe: TrainConfig, training_folder: Path, tmp_path: Path
) -> None:
    recipe = changed(
        training_recipe,
        adversarial={"weight": 1.0, "generator_delay": 0, "channels": 2, "stft_windows": (256,)},
    )
    first = tmp_path / "first"
    fit(recipe, training_folder, first)
    state = new_state(recipe, str(first))
    loaded = load_codec(first)
    for name, tensor in state.codec.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    assert state.adversary is not None and state.adversary.pretrained
    kept = safetensors.torch.load_file(first / "discriminators.safetensors")
    for name, tensor in state.adversary.discriminators.state_dict().items():
        assert torch.equal(tensor, kept[name]), name
    run = CliRunner().invoke(
        main,
        [
            "finetune",
            str(first),
            "--data",
            str(training_folder),
            "--out",
            str(tmp_path / "second"),
            "--set",
            "run.steps=2",
        ],
    )
    assert run.exit_code == 0, run.output
    before, after = load_codec(first).state_dict(), load_codec(tmp_path / "second").state_dict()
    assert not torch.equal(before["encoder.project.weight"], after["encoder.project.weight"])
    other = changed(recipe, model={"latent_dim": 9})
    with pytest.raises(ModelError, match="another shape"):
        fit(other, training_folder, tmp_path / "third", initial_model=str(first))
    wider = changed(recipe, adversarial={"channels": 3})
    with pytest.raises(ModelError, match="discriminators"):
        fit(wider, training_folder, tmp_path / "third", initial_model=str(first))


def test_an_upgraded_decoder_decodes_files_made_before(
    training_recipe: TrainConfig, training_folder: Path, tmp_path: Path
) -> None:
    """The second stage: encoder and codebooks frozen, the decoder trained with discriminators."""
    first, second = tmp_path / "first", tmp_path / "second"
    fit(training_recipe, training_folder, first)
    old = load_codec(first)
    encode_file(RECORDING, tmp_path / "old.codes", model=old)
    run = CliRunner().invoke(
        main,
        [
            *("finetune", str(first), "--data", str(training_folder), "--out", str(second)),
            *("--freeze", "encoder", "--freeze", "quantizer"),
            *("--set", "adversarial.weight=1", "--set", "adversarial.channels=2"),
            *("--set", "adversarial.generator_delay=2"),
            *("--set", "optimizer.weight_decay=0.1", "--set", "optimizer.lr=1e-3"),
        ],
    )
    assert run.exit_code == 0, run.output
    new = load_codec(second)
    assert new.fingerprint == old.fingerprint
    kept = {k for k, tensor in old.state_dict().items() if torch.equal(tensor, new.state_dict()[k])}
    assert kept >= {name for name in old.state_dict() if not name.startswith("decoder.")}
    assert "decoder.body.layers.0.linear.weight" not in kept
    heard = []
    for codec, name in ((old, "old.wav"), (new, "new.wav")):
        decode_file(tmp_path / "old.codes", tmp_path / name, model=codec)
        heard.append(soundfile.read(tmp_path / name)[0])
    assert heard[0].shape == heard[1].shape
    assert not np.array_equal(heard[0], heard[1])
    encode_file(RECORDING, tmp_path / "new.codes", model=new)
    assert (tmp_path / "new.codes").read_bytes() == (tmp_path / "old.codes").read_bytes()

    # Resuming keeps the frozen parts frozen, and refuses to train others.
    resumed = ["finetune", str(first), "--data", str(training_folder), "--out", str(second)]
    run = CliRunner().invoke(main, [*resumed, "--resume", "--set", "run.steps=9"])
    assert run.exit_code == 0, run.output
    assert load_codec(second).fingerprint == old.fingerprint
    run = CliRunner().invoke(main, [*resumed, "--resume", "--set", "optimizer.freeze=[]"])
    assert run.exit_code == 1 and "the optimizer.freeze that it had" in run.output


def test_frozen_weights_stay_to_the_bit_whatever_their_precision(
    training_recipe: TrainConfig, training_folder: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    save_codec(new_state(training_recipe).codec, first, name="full precision", half=False)
    frozen = changed(training_recipe, optimizer={"freeze": ("encoder", "quantizer")})
    fit(frozen, training_folder, second, initial_model=str(first))
    assert load_codec(second).fingerprint == load_codec(first).fingerprint


def test_a_run_is_not_overwritten_and_resuming_needs_a_checkpoint(
    training_recipe: TrainConfig, training_folder: Path, tmp_path: Path
) -> None:
    recipe = changed(training_recipe, run={"keep_checkpoints": 2})
    out = tmp_path / "run"
    fit(recipe, training_folder, out)
    with pytest.raises(TrainingError, match="--resume"):
        fit(recipe, training_folder, out)
    with pytest.raises(TrainingError, match="nothing to resume"):
        fit(recipe, training_folder, tmp_path / "other", resume=True)
    with pytest.raises(ConfigError, match="aecodec finetune"):
        frozen = changed(recipe, optimizer={"freeze": ("encoder",)})
        fit(frozen, training_folder, tmp_path / "other")
    checkpoints = find_checkpoints(out / "training" / "checkpoints")
    assert [path.stem for path in checkpoints] == ["step_000000006", "step_000000004"]
    log = read_log(out)
    checkpoints[0].write_bytes(checkpoints[0].read_bytes()[:-50])
    with (out / "training" / "log.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # killed in the middle of a line
    fit(recipe, training_folder, out, resume=True)  # from the one before
    assert read_log(out) == log
    for path in find_checkpoints(out / "training" / "checkpoints"):
        path.write_bytes(b"damaged")
    with pytest.raises(ModelError, match="damaged"):
        fit(recipe, training_folder, out, resume=True)


def test_a_run_writes_its_log_its_clips_and_its_model(
    training_recipe: TrainConfig, training_folder: Path, tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    fit(training_recipe, training_folder, out)
    home = out / "training"
    assert load_recipe(str(home / "recipe.toml")) == training_recipe
    listed = (home / "validation.txt").read_text().splitlines()
    assert listed and all((training_folder / name).exists() for name in listed)
    assert load_codec(home / "best").config == training_recipe.model
    board = EventAccumulator(str(home / "tensorboard"))
    board.Reload()
    tags = board.Tags()
    assert {"losses/loss", "mel/mel_4", "used/used_1", "share/share_mel"} <= set(tags["scalars"])
    assert {f"decoded/{listed[0]}", f"original/{listed[0]}"} <= set(tags["audio"])
    assert {f"decoded/{listed[0]}", f"original/{listed[0]}"} <= set(tags["images"])
    # The model lies in the folder itself.
    encode_file(RECORDING, tmp_path / "a.codes", model=load_codec(out))


def test_an_upgraded_decoder_of_a_model_in_8_bits_decodes_files_made_before(
    training_recipe: TrainConfig, training_folder: Path, tmp_path: Path
) -> None:
    """Its frozen encoder is stored in another precision. Also the best, and after a resumption."""
    save_codec(new_state(training_recipe).codec, tmp_path / "first", name="first")
    small, out = tmp_path / "small", tmp_path / "out"
    export_model(tmp_path / "first", small)
    fingerprint = load_model(tmp_path / "first").spec.fingerprint
    frozen = changed(training_recipe, optimizer={"freeze": ("encoder", "quantizer")})
    fit(frozen, training_folder, out, initial_model=str(small))
    fit(changed(frozen, run={"steps": 8}), training_folder, out, resume=True)
    for folder in (out, out / "training" / "best"):
        assert load_model(folder).spec.fingerprint == fingerprint
    fit(training_recipe, training_folder, tmp_path / "other", initial_model=str(small))
    assert load_model(tmp_path / "other").spec.fingerprint != fingerprint


def test_recipes_of_earlier_versions_are_still_read(
    training_recipe: TrainConfig, model_folder: Path, tmp_path: Path
) -> None:
    """Their runs wrote graphs, or not."""
    folder = Path(shutil.copytree(model_folder, tmp_path / "run"))
    (folder / "training").mkdir()
    text = to_toml(training_recipe).replace("[run]", "[run]\ngraphs = true")
    (folder / "training" / "recipe.toml").write_text(text)
    assert recipe_of_model(str(folder)).run == training_recipe.run


def test_patience_ends_a_run_early(
    training_recipe: TrainConfig, training_folder: Path, tmp_path: Path
) -> None:
    recipe = changed(
        training_recipe,
        run={"steps": 500, "validate_every": 1, "early_stop": 2},
        optimizer={"lr": 3e-2, "warmup_steps": 0},
    )
    fit(recipe, training_folder, tmp_path / "run")
    mel = [entry["mel_4"] for entry in read_log(tmp_path / "run")]
    assert 3 <= len(mel) < 500
    assert min(mel) == mel[-3]


def test_minutes_replace_steps_and_end_annealed(
    training_recipe: TrainConfig,
    training_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = changed(
        training_recipe,
        run={"steps": 10**9, "validate_every": 10**9},
        optimizer={"warmup_steps": 0},
    )
    rates = []

    def noted(trainer: Trainer, *rest: Any, **options: Any) -> dict[str, float]:
        figures = train_step(trainer, *rest, **options)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        return figures

    monkeypatch.setattr(loop, "train_step", noted)
    fit(recipe, training_folder, tmp_path / "run", minutes=0.05)
    log = read_log(tmp_path / "run")
    assert len(log) == 1 and log[0]["step"] == len(rates) > 10
    assert rates[-1] < 0.2 * max(rates)


@pytest.mark.parametrize("lr", [1e15, 1e3])
def test_an_exploding_loss_stops_with_advice(
    training_recipe: TrainConfig, training_folder: Path, tmp_path: Path, lr: float
) -> None:
    recipe = changed(
        training_recipe,
        optimizer={"lr": lr, "final_lr": lr, "warmup_steps": 0},
        run={"steps": 1000},
    )
    with pytest.raises(CodecError, match=r"--resume and a lower optimizer\.lr"):
        fit(recipe, training_folder, tmp_path / "run")


def test_a_single_exploding_batch_is_survived_and_many_are_not() -> None:
    guard = ExplosionGuard(typical_loss=1.0)

    def check(loss: float) -> None:
        guard.check({"loss": loss}, step=200, lr=1e-3, adversarial_lr=1e-3)

    spike = 2 * explosion.EXPLOSION
    for _ in range(3):
        for _ in range(explosion.EXPLODING_STEPS - 1):
            check(spike)
        check(1.0)
    with pytest.raises(TrainingError, match="the loss rose from 1 to 60"):
        for _ in range(explosion.EXPLODING_STEPS):
            check(spike)
    with pytest.raises(TrainingError, match="the loss is nan"):
        check(float("nan"))


def test_discriminators_that_explode_are_not_kept(
    training_recipe: TrainConfig, training_folder: Path, tmp_path: Path
) -> None:
    recipe = changed(
        training_recipe,
        run={"steps": 50, "checkpoint_every": 1},
        adversarial={"weight": 1.0, "channels": 2, "stft_windows": (256,), "lr": 1e15},
        optimizer={"warmup_steps": 0},
    )
    with pytest.raises(TrainingError, match=r"adversarial\.lr"):
        fit(recipe, training_folder, tmp_path / "run")
    for path in find_checkpoints(tmp_path / "run" / "training" / "checkpoints"):
        assert all(t.isfinite().all() for t in safetensors.torch.load_file(path).values())


def test_a_large_codebook_starts_from_a_bounded_number_of_latents(
    training_recipe: TrainConfig,
    training_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(codebooks, "MAX_LATENTS", 300)
    recipe = changed(training_recipe, model={"codebook_size": 2**13}, run={"steps": 1})
    fit(recipe, training_folder, tmp_path / "run")
    assert load_codec(tmp_path / "run").config.codebook_size == 2**13


def test_dropout_draws_every_number_of_codebooks() -> None:
    rng = np.random.default_rng(0)
    config = QuantizerConfig(start_step=0, dropout=0.5, restart_every=50, restart_until=0.5)
    drawn = torch.cat([draw_num_codebooks(rng, config, 12, 8, 30) for _ in range(200)])
    assert set(drawn.tolist()) == set(range(1, 13))
    assert 0.45 < (drawn == 12).double().mean() < 0.62


def test_dropout_by_frame_varies_within_some_crops() -> None:
    rng = np.random.default_rng(0)
    config = QuantizerConfig(
        start_step=0, dropout=0.5, frame_dropout=0.5, restart_every=50, restart_until=0.5
    )
    drawn = torch.cat([draw_num_codebooks(rng, config, 12, 8, 60) for _ in range(100)])
    assert drawn.shape == (800, 60)
    varies = (drawn != drawn[:, :1]).any(1)
    assert 0.18 < varies.double().mean() < 0.32
    assert set(drawn[varies].flatten().tolist()) == set(range(1, 13))
    changes = (drawn[varies][:, 1:] != drawn[varies][:, :-1]).double().mean()
    assert 0.1 < changes < 0.2  # every sixth frame, twelve numbers
    assert ((drawn[~varies] == 12).double().mean() - 0.66).abs() < 0.06


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonesuch"], "no recipe 'nonesuch'"),
        (["tiny", "--set", "model.strides=[0]"], "strides holds 0"),
        (["tiny", "--set", "model.codebook_size=1000000"], "codebook_size is 1000000"),
        (["tiny", "--device", "abacus"], "device 'abacus' is unknown"),
        (["tiny"], "give --out"),
    ],
)
def test_wrong_use_is_refused_before_any_work(
    training_folder: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    out = [] if "give --out" in message else ["--out", str(tmp_path / "run")]
    run = CliRunner().invoke(main, ["train", *arguments, "--data", str(training_folder), *out])
    assert run.exit_code in (1, 2)
    assert message in run.output and run.output.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_dry_run_describes_and_writes_nothing(training_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["train", "tiny", "--data", str(training_folder), "--out", str(out), "--dry-run"]
    run = CliRunner().invoke(main, arguments)
    assert run.exit_code == 0, run.output
    for words in ("[optimizer]", "182,304", "36.5 M", "speech 0.00", "skipped", "250 ms"):
        assert words in run.output
    assert not out.exists()


def test_only_files_named_like_checkpoints_are_loaded_and_removed(tmp_path: Path) -> None:
    for name in ("step_000000002", "step_000000010", "step_mine", "step_000000003-copy"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
    assert [path.stem for path in find_checkpoints(tmp_path)] == [
        *("step_000000010", "step_000000002")
    ]
