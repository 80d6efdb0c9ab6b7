"""The second synthesis stage: the identity before training, and what it may depend on."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from codec.config import CodecConfig
from codec.errors import ConfigError
from codec.network.fine import FineSynthesis, complex_product
from codec.network.model import Codec
from tests.conftest import FINE, LADDER, LAPPED

STAGE = {
    "block": 20,
    "stride": 5,
    "width": 8,
    "kernel_size": 3,
    "dilations": (1, 2),
    "sample_rate": 8_000,
}


def stage(seed: int = 0, *, trained: bool = True) -> FineSynthesis:
    torch.manual_seed(seed)
    fine = FineSynthesis(6, **STAGE)  # type: ignore[arg-type]
    if trained:
        with torch.no_grad():
            for parameter in fine.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return fine.eval()


@torch.no_grad()
def test_an_untrained_stage_only_delays() -> None:
    fine, audio = stage(trained=False), torch.randn(2, 200, 1)
    out, _ = fine(audio, torch.randn(2, 10, 6), fine.init_state(2))
    torch.testing.assert_close(out[:, 5:], audio[:, :-5], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_stage_shapes_silence_and_full_scale_to_finite_audio() -> None:
    fine = stage()
    for level in (0.0, 1e-9, 1.0, 100.0):
        audio = level * torch.randn(1, 400, 1)
        out, _ = fine(audio, torch.randn(1, 20, 6), fine.init_state(1))
        assert out.isfinite().all()


@torch.no_grad()
def test_excitation_and_earlier_periods_reach_the_output() -> None:
    """Each of the spectra changes the output once its gain is not zero, real or imaginary."""
    audio, features = torch.randn(1, 400, 1), torch.randn(1, 20, 6)
    outputs = []
    for index in range(7):
        fine = stage(trained=False)
        if index == 6:
            fine.gain.bias[:] = 0.5
        else:
            fine.gains.bias.view(3, 6, 2)[index // 2, :, index % 2] = 0.5
        outputs.append(fine(audio, features, fine.init_state(1))[0])
    for index, output in enumerate(outputs):
        assert all(not torch.allclose(output, other, atol=1e-2) for other in outputs[:index])


@torch.no_grad()
def test_the_output_depends_on_no_more_than_the_stated_receptive_field() -> None:
    fine = stage()
    field = fine.span.receptive_field
    assert field is not None
    blocks = field + 12
    audio, features = torch.randn(1, 20 * blocks, 1), torch.randn(1, blocks, 6)
    out, _ = fine(audio, features, fine.init_state(1))
    changed, altered = audio.clone(), features.clone()
    changed[:, : 20 * 10] = torch.randn(1, 20 * 10, 1)
    altered[:, :10] = torch.randn(1, 10, 6)
    other, _ = fine(changed, altered, fine.init_state(1))
    same = 20 * (10 + field - 1)  # the first block whose field begins after the change
    torch.testing.assert_close(other[:, same:], out[:, same:], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(other[:, 200:400], out[:, 200:400], atol=0.1)


def test_a_second_stage_adds_its_stride_to_the_delay_and_changes_no_codes() -> None:
    assert Codec(FINE).delay == Codec(LAPPED).delay + FINE.decoder_fine_stride
    torch.manual_seed(0)
    plain, fine = Codec(LAPPED).eval(), Codec(FINE).eval()
    fine.load_state_dict(fine.state_dict() | plain.state_dict())
    audio = 0.1 * torch.randn(2, 1, 997)
    codes = plain.encode(audio)
    assert torch.equal(fine.encode(audio), codes)
    torch.testing.assert_close(
        fine.decode(codes, 997), plain.decode(codes, 997), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("config", "stride", "message"),
    [
        (LAPPED, 3, "must divide the first stride, 20"),
        (LAPPED, 40, "must divide the first stride, 20"),
        (LADDER, 2, "needs lapped_transform"),
        (LAPPED, -1, "decoder_fine_stride is -1"),
    ],
)
def test_impossible_second_stages_are_named(config: CodecConfig, stride: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(config, decoder_fine_stride=stride)


def test_a_product_of_spectra_is_that_of_complex_numbers() -> None:
    a, b = torch.randn(2, 3, 2, 5)
    product = torch.view_as_complex(a.mT.contiguous()) * torch.view_as_complex(b.mT.contiguous())
    torch.testing.assert_close(complex_product(a, b), torch.view_as_real(product).mT)
