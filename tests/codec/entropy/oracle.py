"""The context model once more, slowly: one sequence, one frame, one digit at a time, in int64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from codec.entropy.context import ContextModel, ContextShape

Tensors = dict[str, npt.NDArray[Any]]


def random_context(rng: np.random.Generator, shape: ContextShape, *, largest: int = 127) -> Tensors:
    """A model of random integers."""
    tensors: Tensors = {}
    for name, size in shape.tensors.items():
        tensors[name] = rng.integers(-largest, largest + 1, size).astype(np.int8)
        if name.endswith("_bias"):
            tensors[name] = rng.integers(-5_000, 5_000, size).astype(np.int32)
    order = [rng.permutation(shape.codebook_size) for _ in range(shape.num_codebooks)]
    tensors["order"] = np.stack(order).astype(np.uint16)
    # As in a fitted model: a code does not depend on itself and those after it.
    inner = tensors["inner"].reshape(shape.num_codebooks, shape.entry_dim, -1, shape.hidden)
    for k in range(shape.num_codebooks):
        inner[k, :, : k + 1] = 0
    return tensors


def matching_context(rng: np.random.Generator, codes: np.ndarray, size: int) -> ContextModel:
    """A small model that knows how often each of codes ``[K, T]`` of ``size`` entries occurs."""
    shape = ContextShape(len(codes), size, 3, width=8, hidden=5, dilations=(1, 2))
    tensors = random_context(rng, shape)
    tensors["order"] = np.tile(np.arange(size, dtype=np.uint16), (len(codes), 1))
    tensors["counts"][:] = tensors["counts_bias"][:] = 0
    counts = np.stack([np.bincount(each, minlength=size) for each in codes]) + 0.1
    counts = counts.reshape(len(codes), *shape.digits)
    for name, found in (("first", counts.sum(2)), ("second", counts)):
        tensors[name] //= 40  # what came before has some influence
        tensors[f"{name}_bias"] = np.round(2048 * np.log2(found)).astype(np.int32)
    return ContextModel(shape, tensors, identity=b"matching")


def intervals(
    shape: ContextShape, tensors: Tensors, codes: np.ndarray, *, variable: bool = False
) -> list[tuple[int, int]]:
    """Start and frequency of the count and of each digit of codes ``[K, T]``, as they are coded."""
    t = {name: tensor.astype(np.int64) for name, tensor in tensors.items()}
    num_codebooks, num_frames = codes.shape
    second_values = shape.digits[1]
    inputs = [[] for _ in shape.dilations]  # type: list[list[np.ndarray]]
    nothing = np.zeros(shape.width, np.int64)
    before = np.zeros(shape.num_codebooks * shape.entry_dim, np.int64)
    found = []
    for frame in range(num_frames):
        x = limited(before @ t["past"] + t["past_bias"], -127)
        for number, dilation in enumerate(shape.dilations):
            inputs[number].append(x)
            back = inputs[number][frame - dilation] if frame >= dilation else nothing
            taps = np.concatenate((back, x))
            y = limited(taps @ t[f"taps_{number}"] + t[f"taps_{number}_bias"], 0)
            y = limited(y @ t[f"project_{number}"] + t[f"project_{number}_bias"], -127)
            x = np.clip(x + y, -127, 127)
        context = x @ t["context"] + t["context_bias"]
        now = np.zeros((shape.num_codebooks, shape.entry_dim), np.int64)
        count = int((codes[:, frame] >= 0).sum())
        sums = (x @ t["counts"] + t["counts_bias"])[:num_codebooks]
        found.append(interval(sums, count - 1) if variable else (0, 65536))
        for k in range(num_codebooks):
            if k >= count:
                found += [(0, 65536)] * 2
                continue
            own = slice(k * shape.hidden, (k + 1) * shape.hidden)
            units = limited(context[own] + now.reshape(-1) @ t["inner"][:, own], 0)
            units = limited(units @ t["hidden"][k] + t["hidden_bias"][k], 0)
            place = int(t["order"][k, codes[k, frame]])
            first, second = divmod(place, second_values)
            found.append(interval(units @ t["first"][k] + t["first_bias"][k], first))
            sums = units @ t["second"][k, first] + t["second_bias"][k, first]
            found.append(interval(sums, second))
            now[k] = t["entries"][k, codes[k, frame]]
        before = now.reshape(-1)
    return found


def limited(sums: np.ndarray, lowest: int) -> np.ndarray:
    clipped: np.ndarray = np.clip(sums >> 6, lowest, 127)
    return clipped


def interval(sums: np.ndarray, digit: int) -> tuple[int, int]:
    steps = [min(int(sums.max() - each) >> 4, 2047) for each in sums]
    weights = [round(2 ** (16 - step / 128)) for step in steps]
    ends, total = [0], 0
    for number, weight in enumerate(weights):
        total += weight
        ends.append(number + 1 + total * (65536 - len(weights)) // sum(weights))
    return ends[digit], ends[digit + 1] - ends[digit]
