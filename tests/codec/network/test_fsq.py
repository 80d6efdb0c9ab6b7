from __future__ import annotations

import pytest
import torch

from codec.network.fsq import ResidualScalarQuantizer, ScalarQuantizer


@pytest.mark.parametrize(
    ("codebook_size", "codebook_dim", "levels"),
    [
        (1024, 12, [2] * 10),
        (1024, 4, [8, 8, 4, 4]),
        (32, 6, [2] * 5),
        (32, 1, [32]),
        (2, 3, [2]),
        (65536, 5, [16, 8, 8, 8, 8]),
    ],
)
def test_every_code_has_its_own_cell(
    codebook_size: int, codebook_dim: int, levels: list[int]
) -> None:
    stage = ScalarQuantizer(12, codebook_size, codebook_dim)
    codes = torch.arange(codebook_size)
    cells = stage.rounded(codes)
    assert [len(column.unique()) for column in cells.unbind(-1)] == levels
    assert len(cells.unique(dim=0)) == codebook_size
    assert cells.abs().max() < 1 and torch.equal(cells, -cells.flip(0))
    # A residual that is projected into a cell gets the code of that cell.
    with torch.no_grad():
        stage.reduce.weight.zero_()[:, : len(levels)] = torch.eye(len(levels))
        stage.reduce.bias.zero_()
    residual = torch.nn.functional.pad(torch.atanh(cells), (0, 12 - len(levels)))
    found, values = stage(residual)
    assert torch.equal(found, codes)
    torch.testing.assert_close(values, stage.expand(cells))


def test_any_input_gives_valid_codes() -> None:
    stage = ScalarQuantizer(3, 64, 2)
    for value in (0.0, 1e30, -1e30, torch.inf, torch.nan):
        codes, _ = stage(torch.full((2, 5, 3), value))
        assert codes.min() >= 0 and codes.max() < 64


@pytest.mark.parametrize("codebook_dim", [1, 3, 6])
def test_initialization_from_data_finds_the_best_scale(codebook_dim: int) -> None:
    """Neither wider nor narrower bounds have a lower error with the best map back."""
    torch.manual_seed(0)
    latent = torch.randn(4000, 6) * torch.linspace(2, 0.1, 6)
    stage = ScalarQuantizer(6, 64, codebook_dim)

    def error(scale: float) -> float:
        stage.initialize(latent)
        with torch.no_grad():
            stage.reduce.weight.mul_(scale)
            stage.reduce.bias.mul_(scale)
            cells = stage.rounded(stage(latent)[0])
            best = torch.linalg.lstsq(cells, latent).solution
            return float((latent - cells @ best).square().mean())

    started = error(1.0)
    assert started < 0.6 * latent.square().mean()
    assert started < 1.02 * min(error(0.6), error(1.6))


def test_initialization_from_constant_latents_reproduces_them() -> None:
    quantizer = ResidualScalarQuantizer(6, num_codebooks=2, codebook_size=16, codebook_dim=3)
    quantizer.initialize(torch.ones(50, 6))
    decoded = quantizer.decode(quantizer.encode(torch.ones(1, 4, 6)))
    torch.testing.assert_close(decoded, torch.ones(1, 4, 6))


def test_a_restart_changes_no_weights() -> None:
    quantizer = ResidualScalarQuantizer(6, num_codebooks=2, codebook_size=16, codebook_dim=3)
    before = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    quantizer.restart(torch.randn(2, 5, 6), torch.ones(2, 16, dtype=torch.bool))
    assert all(torch.equal(tensor, before[name]) for name, tensor in quantizer.state_dict().items())
