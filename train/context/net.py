"""`ContextNet`: a context model in training, with the integers of `ContextModel` in the loop.

Weights are continuous and rounded in every forward pass; the gradient passes the rounding as if it
were not there (straight-through, Bengio et al., arXiv:1308.3432). So what is fitted is what
the integers do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec.entropy.context import ACTIVATION_BITS, LIMIT, WEIGHT_BITS, ContextShape

WEIGHT_UNIT = 2.0**WEIGHT_BITS
ACTIVATION_UNIT = 2.0**ACTIVATION_BITS
SUM_UNIT = WEIGHT_UNIT * ACTIVATION_UNIT


class ExactProduct(nn.Module):
    """``x @ weight + bias`` with integers: the sums before a shift.

    Args:
        size: shape of the weight; of several matrices if it has three or four dimensions.
        gain: standard deviation of the outputs for inputs of one.
    """

    def __init__(self, size: tuple[int, ...], gain: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size) * gain * size[-2] ** -0.5)
        self.bias = nn.Parameter(torch.zeros(size[:-2] + size[-1:]))

    def forward(self, x: Tensor) -> Tensor:
        sums: Tensor = x @ self.integer_weight() + self.integer_bias().unsqueeze(-2)
        return sums

    def integer_weight(self) -> Tensor:
        """The weight as it is stored."""
        return rounded((self.weight * WEIGHT_UNIT).clamp(-LIMIT, LIMIT))

    def integer_bias(self) -> Tensor:
        """The bias as it is stored."""
        return rounded(self.bias * SUM_UNIT)


class ContextNet(nn.Module):
    """A context model in training.

    Args:
        shape: its sizes.
        values: ``[K, codebook_size, D]``, what each code stands for: codes are grouped by it, and
            entries begin as its principal components.
    """

    order: Tensor
    earlier: Tensor
    products: Mapping[str, ExactProduct]

    def __init__(self, shape: ContextShape, values: Tensor) -> None:
        super().__init__()
        self.shape = shape
        groups, size = shape.digits
        order = torch.stack([order_by_group(each, groups, size) for each in values])
        self.register_buffer("order", order)
        self.entries = nn.Parameter(principal_components(values, shape.entry_dim))
        gains = {"hidden": 2**0.5, "first": 0.5, "second": 0.5, "inner": 0.7, "counts": 0.5}
        gains |= {name: 2**0.5 for name in shape.products if name.startswith("taps")}
        gains |= {name: 0.0 for name in shape.products if name.startswith("project")}
        products = {
            name: ExactProduct(size, gains.get(name, 1.0)) for name, size in shape.products.items()
        }
        self.products = cast("Mapping[str, ExactProduct]", nn.ModuleDict(products))
        # The codebooks that come before each one in a frame.
        books = torch.arange(shape.num_codebooks)
        earlier = (books[:, None] < books).float()
        earlier = earlier.repeat_interleave(shape.entry_dim, 0)
        self.register_buffer("earlier", earlier.repeat_interleave(shape.hidden, 1))

    def forward(self, codes: Tensor, num_codebooks: Tensor) -> tuple[Tensor, Tensor]:
        """Bits that codes cost.

        Args:
            codes: ``[B, K, T]`` int64, sequences from their beginning.
            num_codebooks: ``[B, T]``, how many codes of each frame are present, at least one.

        Returns:
            ``[B, K, T]`` for each code, without meaning for absent ones, and ``[B, T]`` for the
            number of codes.
        """
        batch, count, num_frames = codes.shape
        books = torch.arange(count, device=codes.device)
        integers = rounded((self.entries * ACTIVATION_UNIT).clamp(-LIMIT, LIMIT))
        entries = integers[books, codes.mT]  # [B, T, K, d]
        entries = entries * (books < num_codebooks[..., None])[..., None]
        flat = entries.flatten(2)
        x = self._past(F.pad(flat, (0, 0, 1, 0))[:, :num_frames])
        inner = flat @ (self.products["inner"].integer_weight() * self.earlier)
        sums = self.products["context"](x) + inner
        units = shifted(sums, 0).reshape(-1, count, self.shape.hidden).transpose(0, 1)
        units = shifted(self.products["hidden"](units), 0)  # [K, B * T, hidden]

        groups, size = self.shape.digits
        places = self.order[books, codes.mT].flatten(0, 1).mT  # [K, B * T]
        group, place = places // size, places % size
        first = bits(self.products["first"](units), group)
        # Of all groups at once, which is faster than to look up a matrix for every frame.
        second = self.products["second"]
        weight = second.integer_weight().transpose(1, 2).flatten(2)  # [K, hidden, groups * size]
        sums = units @ weight + second.integer_bias().flatten(1)[:, None]
        sums = sums.unflatten(2, (groups, size))
        chosen = sums.gather(2, group[..., None, None].expand(-1, -1, 1, size)).squeeze(2)
        of_codes = (first + bits(chosen, place)).reshape(count, batch, num_frames)
        return of_codes.transpose(0, 1), bits(self.products["counts"](x), num_codebooks - 1)

    @torch.no_grad()
    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """The integers, for `ContextModel`."""
        tensors = {"order": self.order.numpy()}
        entries = (self.entries * ACTIVATION_UNIT).clamp(-LIMIT, LIMIT).round()
        tensors["entries"] = entries.to(torch.int8).numpy()
        for name, product in self.products.items():
            weight = product.integer_weight()
            weight = weight * self.earlier if name == "inner" else weight
            tensors[name] = weight.to(torch.int8).numpy()
            tensors[f"{name}_bias"] = product.integer_bias().to(torch.int32).numpy()
        tensors["inner_bias"][:] = 0
        return tensors

    def _past(self, past: Tensor) -> Tensor:
        x = shifted(self.products["past"](past), -LIMIT)
        for number, dilation in enumerate(self.shape.dilations):
            back = F.pad(x, (0, 0, dilation, 0))[:, : x.shape[1]]
            y = shifted(self.products[f"taps_{number}"](torch.cat((back, x), dim=-1)), 0)
            y = shifted(self.products[f"project_{number}"](y), -LIMIT)
            x = (x + y).clamp(-LIMIT, LIMIT)
        return x


def bits(sums: Tensor, digits: Tensor) -> Tensor:
    """Bits that digits cost, ``[...]``, from sums ``[..., values]``."""
    logarithms = (sums * (math.log(2) / SUM_UNIT)).log_softmax(-1)
    return -logarithms.gather(-1, digits[..., None]).squeeze(-1) / math.log(2)


def rounded(x: Tensor) -> Tensor:
    """Rounded, with the gradient of ``x``."""
    return x + (x.round() - x).detach()


def shifted(sums: Tensor, lowest: int) -> Tensor:
    """Activations from sums, with the gradient of the division."""
    x = sums / WEIGHT_UNIT
    return (x + (x.floor() - x).detach()).clamp(lowest, LIMIT)


def principal_components(values: Tensor, count: int) -> Tensor:
    """The first components of vectors ``[K, n, D]``: ``[K, n, count]`` with an RMS of about one."""
    centred = values - values.mean(1, keepdim=True)
    left, singular, _ = torch.linalg.svd(centred, full_matrices=False)
    components = (left * singular[:, None])[..., :count]
    components = F.pad(components, (0, count - components.shape[-1]))
    return components / components.square().mean((1, 2), keepdim=True).sqrt().clamp(min=1e-12)


def order_by_group(values: Tensor, num_groups: int, size: int) -> Tensor:
    """Place of each of the vectors ``[num_groups * size, D]`` among them, sorted by group.

    Groups are of equal size: balanced k-means, which lets the vectors with the most to lose choose
    first.
    """
    centres = values[::size].clone()
    for _ in range(10):
        distances = torch.cdist(values, centres)
        eagerness = distances.amax(1) - distances.amin(1)
        wishes = distances.argsort(dim=1).tolist()
        room = [size] * num_groups
        members: list[list[int]] = [[] for _ in range(num_groups)]
        for vector in eagerness.argsort(descending=True).tolist():
            group = next(group for group in wishes[vector] if room[group])
            room[group] -= 1
            members[group].append(vector)
        centres = torch.stack([values[each].mean(0) for each in members])
    sorted_vectors = torch.tensor([vector for each in members for vector in sorted(each)])
    return torch.empty_like(sorted_vectors).scatter_(0, sorted_vectors, torch.arange(len(values)))
