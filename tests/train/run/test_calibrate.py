from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from codec.network.lapped import SpectrumHead
from codec.network.model import Codec
from train.run.calibrate import remove_dc


@pytest.fixture
def crops(lapped: Codec) -> Tensor:
    torch.manual_seed(1)
    time = torch.arange(2_000) / lapped.config.sample_rate
    pitch = torch.rand(12, 1, 1) * 500 + 100
    return 0.1 * torch.sin(2 * torch.pi * pitch * time) + 0.01 * torch.randn(12, 1, 2_000)


def mean_of_noise(codec: Codec, rms: float, count: int | None) -> float:
    """The mean of decoded noise relative to its RMS, for noise that calibration did not use."""
    torch.manual_seed(2)
    noise = torch.randn(4, 1, 20_000) * rms
    decoded = codec.synthesize(codec.embed(noise - noise.mean(-1, keepdim=True), count))
    return abs(float(decoded.mean())) / rms


@pytest.mark.parametrize(
    ("kind", "counts"), [("lapped", (1, 3, 4)), ("lstm", (1, 2)), ("vae", (None,))]
)
def test_decoded_noise_loses_its_mean_and_little_else(
    kind: str, counts: tuple[int | None, ...], crops: Tensor, request: pytest.FixtureRequest
) -> None:
    before: Codec = copy.deepcopy(request.getfixturevalue(kind))
    with torch.no_grad():
        head = before.decoder.body.layers[-2]
        assert isinstance(head, SpectrumHead)
        head.head.bias[0] += 0.5
    after = copy.deepcopy(before)
    remove_dc(after, crops)
    for rms in (0.02, 0.2):
        for count in counts:
            a, b = (mean_of_noise(codec, rms, count) for codec in (before, after))
            assert a > 0.01 and b < 0.25 * a
    changed = {
        name
        for (name, a), b in zip(
            before.state_dict().items(), after.state_dict().values(), strict=True
        )
        if not torch.equal(a, b)
    }
    last = f"decoder.body.layers.{len(before.decoder.body.layers) - 2}.head"
    assert changed == {f"{last}.weight", f"{last}.bias"}
    for name in changed:  # only the row of the lowest coefficient
        assert torch.equal(before.state_dict()[name][1:], after.state_dict()[name][1:])


def test_without_a_lapped_transform_nothing_is_done(ladder: Codec, crops: Tensor) -> None:
    after = copy.deepcopy(ladder)
    remove_dc(after, crops)
    for old, new in zip(ladder.parameters(), after.parameters(), strict=True):
        assert torch.equal(old, new)
