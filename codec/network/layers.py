"""Causal layers, each ``forward(x, state) -> (y, state)``.

The state is a value: what a layer must remember of the past, passed in and handed back.
Training, whole files and live streams differ only in how long the pieces are. Layers without
memory have the state ``()``.

Inside the network, tensors are ``[B, T, C]``: with the channels last, a convolution is one
matrix product over a view of its input, striding and unstriding are free reshapes, and a
streaming step of one frame runs about five times faster than ``torch.nn.Conv1d`` on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, Protocol, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State: TypeAlias = "Tensor | tuple[State, ...]"


class Layer(Protocol):
    """What every layer here can do."""

    def init_state(self, batch: int) -> State: ...

    def __call__(self, x: Tensor, state: State) -> tuple[Tensor, State]: ...


class CausalConv1d(nn.Module):
    """1-D convolution over the present and past frames.

    With a stride, the kernel covers ``kernel_size`` whole strides: input is cut into patches of
    ``stride`` frames and the kernel runs over patches. The state is the left context: the last
    ``(kernel_size - 1) * dilation`` patches. ``before`` names the activation that follows.

    Shapes: ``[B, T * stride, C_in] -> [B, T, C_out]``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        dilation: int = 1,
        before: Activation = "none",
    ) -> None:
        super().__init__()
        self.patch = in_channels * stride
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.context = (kernel_size - 1) * dilation
        self.linear = nn.Linear(kernel_size * self.patch, out_channels)
        init_linear(self.linear, fan_in=kernel_size * self.patch, before=before)

    def init_state(self, batch: int) -> State:
        if not self.context:
            return ()
        return self.linear.weight.new_zeros(batch, self.context, self.patch)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        x = x.reshape(x.shape[0], -1, self.patch)
        if not self.context:
            return self.linear(x), ()
        assert isinstance(state, Tensor)
        num_frames = x.shape[1]
        x = torch.cat((state.to(x.dtype), x), dim=1)
        taps = [x.narrow(1, tap * self.dilation, num_frames) for tap in range(self.kernel_size)]
        return self.linear(torch.cat(taps, dim=-1)), x[:, x.shape[1] - self.context :]


class CausalConvTranspose1d(nn.Module):
    """Transposed convolution with a kernel of two strides: each frame overlaps the next by half.

    The state is the unfinished second half of the last frame, added to the first half of the
    next. The bias is added after that, once per output.

    Shapes: ``[B, T, C_in] -> [B, T * stride, C_out]``.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.patch = out_channels * stride
        self.linear = nn.Linear(in_channels, 2 * self.patch, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        init_linear(self.linear, fan_in=2 * in_channels, before="none")

    def init_state(self, batch: int) -> State:
        return self.bias.new_zeros(batch, 1, self.patch)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        assert isinstance(state, Tensor)
        now, later = self.linear(x).split(self.patch, dim=-1)
        tails = torch.cat((state.to(later.dtype), later), dim=1)
        y = (now + tails[:, :-1]).reshape(x.shape[0], -1, self.out_channels)
        return y + self.bias, tails[:, -1:]


class RMSNorm(nn.Module):
    """Scale each frame to unit root-mean-square over its channels (arXiv:1910.07467).

    Over channels, never over time: a norm over time would break streaming. Frames much fainter
    than `NORM_FLOOR` stay faint: what follows must not make something of nothing.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), eps=NORM_FLOOR**2)


# Of companded features, which in speech have about unit RMS.
NORM_FLOOR = 0.1


# Trained features stay far below. Without a limit, a hidden channel that is hardly ever used can
# grow until, one day, it drowns everything: that ended long runs at a learning rate of 1e-3.
HIDDEN_LIMIT = 6.0


class ResidualUnit(nn.Module):
    """``x + project(silu(dilated_convolution(norm(x))))``, the activation bounded.

    The projection starts at zero, so a deep stack starts as the identity and stays trainable.

    Shapes: ``[B, T, C] -> [B, T, C]``.
    """

    def __init__(self, channels: int, kernel_size: int, dilation: int) -> None:
        super().__init__()
        self.norm = RMSNorm(channels)
        self.conv = CausalConv1d(channels, channels, kernel_size, dilation=dilation, before="silu")
        self.project = nn.Linear(channels, channels)
        _init_zero(self.project)

    def init_state(self, batch: int) -> State:
        return self.conv.init_state(batch)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = self.conv(self.norm(x), state)
        return x + self.project(F.silu(y.clamp(max=HIDDEN_LIMIT))), state


class RecurrentUnit(nn.Module):
    """``x + project(recurrence(norm(x)))``: memory without an end.

    One GRU (arXiv:1406.1078) or LSTM (Hochreiter and Schmidhuber, 1997), whose state is this
    layer's: the hidden vector, with the cell's beside it in an LSTM. The projection starts
    at zero, as in `ResidualUnit`.

    Shapes: ``[B, T, C] -> [B, T, C]``.
    """

    def __init__(self, channels: int, kind: str) -> None:
        super().__init__()
        self.norm = RMSNorm(channels)
        self.recurrence = _RECURRENCES[kind](channels, channels, batch_first=True)
        self.project = nn.Linear(channels, channels)
        _init_zero(self.project)

    def init_state(self, batch: int) -> State:
        hidden = self.project.weight.new_zeros(batch, 1, self.recurrence.hidden_size)
        return (hidden, hidden) if isinstance(self.recurrence, nn.LSTM) else hidden

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        if not x.shape[1]:  # which torch's recurrences refuse
            return x, state
        y, state = self.recurrence(self.norm(x), _swap_batch(state))
        return x + self.project(y), _swap_batch(state)


_RECURRENCES: dict[str, type[nn.GRU] | type[nn.LSTM]] = {"gru": nn.GRU, "lstm": nn.LSTM}


def _swap_batch(state: State) -> State:
    """To and from torch's order, which has the batch second."""
    if isinstance(state, tuple):
        return tuple(map(_swap_batch, state))
    return state.transpose(0, 1).contiguous()


class Chain(nn.Module):
    """Layers one after the other; the state is the tuple of theirs."""

    layers: Sequence[Layer]

    def __init__(self, layers: Iterable[Layer]) -> None:
        super().__init__()
        self.layers = cast("Sequence[Layer]", nn.ModuleList(cast("Iterable[nn.Module]", layers)))

    def init_state(self, batch: int) -> State:
        return tuple(layer.init_state(batch) for layer in self.layers)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        assert isinstance(state, tuple)
        states = []
        for layer, layer_state in zip(self.layers, state, strict=True):
            x, layer_state = layer(x, layer_state)
            states.append(layer_state)
        return x, tuple(states)


class LappedAnalysis(nn.Module):
    """Samples to companded spectra: the first level of an encoder.

    An MDCT over two strides, then each coefficient raised to `COMPANDING`, sign kept. The ear
    hears level as a ratio; a network that sees raw coefficients sees only the loudest ones.

    The transform is fixed and in full precision: what rounding or a small error of its weights
    leaks from loud coefficients drowns faint ones, and training it slows down all else.

    Shapes: ``[B, T * stride, 1] -> [B, T, C]``.
    """

    def __init__(self, channels: int, *, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.project = nn.Linear(stride, channels)
        init_linear(self.project, fan_in=stride, before="none")
        self.register_buffer("basis", mdct(stride), persistent=False)

    def init_state(self, batch: int) -> State:
        return self.project.weight.new_zeros(batch, 1, self.stride)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        assert isinstance(state, Tensor)
        with torch.autocast(x.device.type, enabled=False):
            x = torch.cat((state, x.float().reshape(x.shape[0], -1, self.stride)), dim=1)
            frames = torch.cat((x[:, :-1], x[:, 1:]), dim=-1)
            spectrum = F.linear(frames, self.get_buffer("basis"))
        return self.project(compand(spectrum)), x[:, -1:]


class LappedSynthesis(nn.Module):
    """Features to samples: the last level of a decoder.

    A head predicts companded MDCT coefficients. Another predicts a gain for each of them, from
    normalised features, since how a spectrum is shaped does not depend on its level: so energy is
    learned even where phase cannot be coded (the idea of the spectral head of Vocos,
    arXiv:2306.00814).

    The inverse MDCT after it is fixed and in full precision, as in `LappedAnalysis`. The state is
    the half frame that the next one overlaps.

    Shapes: ``[B, T, C] -> [B, T * stride, 1]``.
    """

    def __init__(self, channels: int, *, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.head = nn.Linear(channels, stride)
        self.norm = RMSNorm(channels)
        self.hidden = nn.Linear(channels, channels)
        self.gain = nn.Linear(channels, stride)
        with torch.no_grad():
            nn.init.normal_(self.head.weight, std=0.1 * channels**-0.5)
            nn.init.zeros_(self.head.bias)
        init_linear(self.hidden, fan_in=channels, before="silu")
        _init_zero(self.gain)
        self.register_buffer("basis", mdct(stride), persistent=False)

    def init_state(self, batch: int) -> State:
        return self.head.weight.new_zeros(batch, 1, self.stride)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        assert isinstance(state, Tensor)
        gain = self.gains(x)
        with torch.autocast(x.device.type, enabled=False):
            spectrum = expand(self.head(x.float())) * gain
            now, later = (spectrum @ self.get_buffer("basis")).chunk(2, dim=-1)
        tails = torch.cat((state, later), dim=1)
        return (now + tails[:, :-1]).reshape(x.shape[0], -1, 1), tails[:, -1:]

    def gains(self, x: Tensor) -> Tensor:
        """What the coefficients are multiplied by: ``[B, T, C] -> [B, T, stride]``, in 0..2."""
        # Bounded: what followed silence once was a gain of a hundred.
        gain: Tensor = 2 * self.gain(F.silu(self.hidden(self.norm(x)))).float().sigmoid()
        return gain


# Chosen by measurement among 0.3, 0.5, 0.65, 0.8 and 1: towards 0.3 the codes are spent on noise
# that is hardly heard, towards 1 on the loudest partials alone.
COMPANDING = 0.6
# Companded speech has about unit RMS. The floor lets gradients pass at silence.
COMPANDING_SCALE = 4.0
COMPANDING_FLOOR = 1e-6


def compand(x: Tensor) -> Tensor:
    """``sign(x) |x|^0.6``, scaled, and linear near zero."""
    return x * (x.square() + COMPANDING_FLOOR) ** ((COMPANDING - 1) / 2) * COMPANDING_SCALE


def expand(y: Tensor) -> Tensor:
    """About the inverse of `compand`."""
    y = y / COMPANDING_SCALE
    floor: float = COMPANDING_FLOOR**COMPANDING
    return y * (y.square() + floor) ** ((1 / COMPANDING - 1) / 2)


def mdct(stride: int) -> Tensor:
    """The sine-windowed, orthonormal MDCT basis ``[stride, 2 * stride]``, one function a row.

    Princen, Johnson and Bradley, 1987.
    """
    time = torch.arange(2 * stride, dtype=torch.float64)
    frequency = torch.arange(stride, dtype=torch.float64)[:, None] + 0.5
    phase = math.pi / stride * (time + 0.5 + stride / 2) * frequency
    window = torch.sin(math.pi / (2 * stride) * (time + 0.5)) * math.sqrt(2 / stride)
    return (phase.cos() * window).float()


Activation: TypeAlias = Literal["none", "silu"]


def init_linear(linear: nn.Linear, *, fan_in: int, before: Activation) -> None:
    """Keep the power of a signal through a layer and the activation that it stands ``before``.

    By inputs, as He et al. (arXiv:1502.01852): with a gain of the square root of two before
    SiLU, which like ReLU lets about half of the power through; without, where no activation
    follows (the rule of Xavier Glorot and Bengio, 2010, of which the part about inputs is kept).
    """
    gain = nn.init.calculate_gain("relu" if before == "silu" else "linear")
    nn.init.normal_(linear.weight, std=gain * fan_in**-0.5)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


def _init_zero(linear: nn.Linear) -> None:
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
