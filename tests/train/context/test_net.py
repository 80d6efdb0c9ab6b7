"""What is fitted is what the integers of the context model do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codec.entropy.context import NO_CODE, ContextShape
from tests.codec.entropy.range_coder import TOTAL
from tests.codec.entropy.reference import ReferenceModel
from train.context.net import ContextNet, order_by_group, principal_components


def net(shape: ContextShape) -> ContextNet:
    """A network of random weights, none of which is zero."""
    torch.manual_seed(3)
    made = ContextNet(shape, torch.randn(shape.num_codebooks, shape.codebook_size, 9))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return made


@pytest.mark.parametrize("size", [2, 32, 64])
def test_bits_are_those_of_the_integers(size: int) -> None:
    shape = ContextShape(4, size, 5, width=12, hidden=7, dilations=(1, 3))
    made = net(shape)
    codes = torch.randint(size, (3, 4, 11), generator=torch.Generator().manual_seed(0))
    model = ReferenceModel(shape, made.tensors())
    counts = torch.randint(1, 5, (3, 11), generator=torch.Generator().manual_seed(2))
    for present in (torch.full((3, 11), 1), torch.full((3, 11), 4), counts):
        of_codes, of_counts = (each.detach().numpy() for each in made(codes, present))
        there = np.arange(4)[:, None] < present.numpy()[:, None]
        sent = np.where(there, codes.numpy(), NO_CODE)
        _, frequencies, _ = model.code_intervals(sent, model.init_state(3), variable=True)
        cost = -np.log2(frequencies / TOTAL)
        assert np.abs(of_counts - cost[:, :, 0])[cost[:, :, 0] < 12].max() < 0.1
        exact = cost[:, :, 1:].reshape(3, 11, 4, 2).sum(-1).transpose(0, 2, 1)[there]
        bits = of_codes[there]
        # A digit's probability is at least 2^-16 for the integers, and has steps of 2^(1/128).
        likely = exact < 12
        assert likely.mean() > 0.5
        assert np.abs(bits - exact)[likely].max() < 0.1
        assert np.abs(bits - exact)[likely].mean() < 0.02


def test_codes_depend_on_earlier_ones_only() -> None:
    shape = ContextShape(3, 16, 4, width=8, hidden=6, dilations=(1, 2))
    made = net(shape)
    codes = torch.randint(16, (1, 3, 8), generator=torch.Generator().manual_seed(1))
    counts = torch.full((1, 8), 3)
    before = made(codes, counts)[0]
    changed = codes.clone()
    changed[0, 1, 4] = (codes[0, 1, 4] + 5) % 16
    differs = (made(changed, counts)[0] != before)[0]
    assert not differs[:, :4].any()
    assert not differs[0, 4] and differs[1, 4] and differs[2, 4]
    assert differs[:, 5].all()


def test_codebooks_that_are_not_sent_are_not_looked_at() -> None:
    shape = ContextShape(3, 16, 4, width=8, hidden=6, dilations=(1,))
    made = net(shape)
    codes = torch.randint(16, (1, 3, 8), generator=torch.Generator().manual_seed(1))
    other = codes.clone()
    other[:, 2] = (codes[:, 2] + 3) % 16
    two, three = torch.full((1, 8), 2), torch.full((1, 8), 3)
    assert torch.equal(made(codes, two)[0][:, :2], made(other, two)[0][:, :2])
    assert not torch.equal(made(codes, three)[0][:, :2], made(other, three)[0][:, :2])


def test_similar_codes_are_in_one_group_and_groups_are_of_equal_size() -> None:
    rng = torch.Generator().manual_seed(0)
    centres = 10 * torch.randn(4, 3, generator=rng)
    member = torch.randperm(32, generator=rng) % 4
    values = centres[member] + 0.1 * torch.randn(32, 3, generator=rng)
    order = order_by_group(values, 4, 8)
    assert torch.equal(order.sort().values, torch.arange(32))
    groups = [set(member[order // 8 == group].tolist()) for group in range(4)]
    assert [len(each) for each in groups] == [1] * 4


def test_entries_keep_what_differs_most() -> None:
    values = torch.randn(2, 50, 6, generator=torch.Generator().manual_seed(0))
    values[..., 2] *= 20
    first = principal_components(values, 1)[..., 0]
    for entries, column in zip(first, values[..., 2], strict=True):
        assert abs(np.corrcoef(entries, column)[0, 1]) > 0.99
    assert principal_components(values, 9).shape == (2, 50, 9)
