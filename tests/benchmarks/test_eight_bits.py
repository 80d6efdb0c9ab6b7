"""The benchmark of 8 bits: what is rounded, how finely, and that the float32 network stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import eight_bits
from benchmarks.eight_bits import BLOCK, rounded, with_eight_bits
from tests.conftest import RECORDING


@pytest.mark.parametrize("length", [1, BLOCK - 1, BLOCK, 3 * BLOCK + 5])
def test_each_block_has_255_values_up_to_its_largest(length: int) -> None:
    torch.manual_seed(length)
    values = torch.randn(4, length) * torch.logspace(-4, 4, length)
    found = rounded(values)
    assert found.shape == values.shape
    for start in range(0, length, BLOCK):
        block, original = (x[:, start : start + BLOCK] for x in (found, values))
        step = original.abs().amax(1, keepdim=True) / 127
        assert bool(((block - original).abs() <= step * 0.5001).all())
        assert torch.allclose((block / step).round(), block / step, atol=1e-3)


def test_zeros_stay_zeros() -> None:
    assert not rounded(torch.zeros(2, 40)).any()


def test_weights_and_inputs_are_rounded_in_a_copy() -> None:
    torch.manual_seed(0)
    first, second, x = nn.Linear(40, 3), nn.Linear(3, 2), torch.randn(5, 40)
    weights = [layer.weight.clone() for layer in (first, second)]
    small = with_eight_bits(nn.Sequential(first, nn.ReLU(), second))
    hidden = torch.relu(rounded(x) @ rounded(weights[0]).T + first.bias)
    expected = rounded(hidden) @ rounded(weights[1]).T + second.bias
    assert torch.allclose(small(x), expected, atol=1e-6)
    assert torch.equal(first.weight, weights[0]) and torch.equal(second.weight, weights[1])


def test_the_command_compares_all_ways(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "speech_a.flac").write_bytes(RECORDING.read_bytes())
    words = ["--data", str(tmp_path), "--model", str(model_folder), "--seconds", "1"]
    eight_bits.main([*words, "--codebooks", "2", "--out", str(tmp_path / "out")])
    rows = json.loads((tmp_path / "out" / "eight_bits.json").read_text("utf-8"))["files"]
    assert [row["way"] for row in rows] == list(eight_bits.WAYS)
    assert [row["equal_codes"] for row in rows[:2]] == [1.0, 1.0]
    assert "| 2 | both of 8 bits |" in capsys.readouterr().out
