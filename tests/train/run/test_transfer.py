"""Starting a larger model from a smaller one."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from codec.errors import ModelError
from codec.network.model import Codec
from tests.conftest import FINE, LADDER, LAPPED, sound
from train.run.transfer import transfer_weights


def new(**changes: Any) -> Codec:
    torch.manual_seed(5)
    return Codec(dataclasses.replace(LAPPED, **changes)).eval()


@torch.no_grad()
def test_a_larger_model_decodes_what_the_smaller_one_coded(lapped: Codec) -> None:
    larger = new(
        num_codebooks=7,
        encoder_dilations=((1, 2, 5), (1, 3)),
        decoder_dilations=((3, 1), (1, 2, 4, 8)),
        decoder_fine_stride=10,
        decoder_fine_channels=8,
        decoder_fine_dilations=(1,),
    )
    assert transfer_weights(lapped, larger) == 4
    audio = torch.from_numpy(sound(997, 2))[:, None]
    codes = lapped.encode(audio)
    assert torch.equal(larger.encode(audio)[:, :4], codes)
    expected = lapped.decode(codes, 997)
    torch.testing.assert_close(larger.decode(codes, 997), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_further_codebooks_are_initialised_from_what_the_first_ones_leave(lapped: Codec) -> None:
    larger = new(num_codebooks=6)
    count = transfer_weights(lapped, larger)
    latent = lapped.encode_latent(torch.from_numpy(sound(40 * 400, 4)).reshape(4, 1, -1))
    larger.quantizer.initialize(latent.flatten(0, 1), count)
    codes = larger.quantize(latent)
    assert torch.equal(codes[:, :4], lapped.quantize(latent))
    errors = [
        (larger.dequantize(codes[:, :number]) - latent).square().mean().item()
        for number in (4, 5, 6)
    ]
    assert errors[0] > 1.05 * errors[1] > 1.05**2 * errors[2]


@pytest.mark.parametrize(
    "changes",
    [
        {"latent_dim": 9, "codebook_dim": 4},
        {"num_codebooks": 3},
        {"decoder_dilations": ((3,), (2, 1))},
        {"decoder_dilations": ((3,), (1,))},
        {"encoder_dilations": ((1, 2), (2, 1))},
        {"recurrent": "gru"},
        {"sample_rate": 16_000},
    ],
)
def test_another_shape_is_refused(lapped: Codec, changes: dict[str, Any]) -> None:
    target = new(**changes)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(ModelError, match="another shape"):
        transfer_weights(lapped, target)
    for name, value in target.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_second_stage_is_not_dropped(fine: Codec, ladder: Codec) -> None:
    with pytest.raises(ModelError, match="another shape"):
        transfer_weights(fine, Codec(LAPPED))
    with pytest.raises(ModelError, match="another shape"):
        transfer_weights(ladder, Codec(FINE))
    same = Codec(LADDER)
    assert transfer_weights(ladder, same) == 3
    for name, value in same.state_dict().items():
        assert torch.equal(value, ladder.state_dict()[name])
