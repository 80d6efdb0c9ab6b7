"""Causal layers with the interface `Layer`: ``forward(x, state) -> (y, state)``.

The state is a value: all that a layer remembers of the past is passed in and returned. Training,
whole files and live streams differ only in the length of the pieces. Layers without memory have
the state ``()``. Every layer states its stride, latency and receptive field as its `span`.

Tensors are ``[B, T, C]``: with the channels last, a convolution is one matrix product over a view
of its input, changing the rate is a free reshape, and a streaming step of one frame runs about
five times faster than with ``torch.nn.Conv1d`` on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Literal, Protocol, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec.network.span import Span, compose

State: TypeAlias = "Tensor | tuple[State, ...]"


class Layer(Protocol):
    """The interface of all layers of this package."""

    @property
    def span(self) -> Span:
        """Stride, latency and receptive field."""

    def init_state(self, batch: int) -> State:
        """The state before any input, for a batch of ``batch`` items."""

    def __call__(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Process a piece ``[B, T, C]`` of any whole number of frames.

        The state is that of `init_state` or of the previous piece; that for the next is returned.
        """


class CausalConv1d(nn.Module):
    """1-D convolution over the present and past frames.

    The input is cut into patches of ``stride`` frames, and the kernel covers ``kernel_size``
    patches that are ``dilation`` patches apart. The state is the left context: the last
    ``(kernel_size - 1) * dilation`` patches. The initialisation depends on the activation after it,
    which is named by ``before``.

    Shapes: ``[B, T * stride, C_in] -> [B, T, C_out]``.

    Example:
        >>> conv = CausalConv1d(1, 8, kernel_size=2, stride=4)
        >>> y, state = conv(torch.zeros(1, 12, 1), conv.init_state(1))
        >>> y.shape, conv.span.receptive_field
        (torch.Size([1, 3, 8]), 8)
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
        self.stride = stride
        self.patch = in_channels * stride
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.context = (kernel_size - 1) * dilation
        self.linear = nn.Linear(kernel_size * self.patch, out_channels)
        init_linear(self.linear, fan_in=kernel_size * self.patch, before=before)

    @property
    def span(self) -> Span:
        """The kernel covers the newest patch and the left context."""
        return Span(stride=Fraction(self.stride), receptive_field=(self.context + 1) * self.stride)

    def init_state(self, batch: int) -> State:
        """A left context of zeros, ``[batch, context, patch]``."""
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
    """Transposed convolution with a kernel of two strides: consecutive frames overlap by half.

    The state is the second half of the newest frame, to which the first half of the next one will
    be added. The bias is added once to each output.

    Shapes: ``[B, T, C_in] -> [B, T * stride, C_out]``.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.out_channels = out_channels
        self.patch = out_channels * stride
        self.linear = nn.Linear(in_channels, 2 * self.patch, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        init_linear(self.linear, fan_in=2 * in_channels, before="none")

    @property
    def span(self) -> Span:
        """An output frame needs the newest input frame and the one before."""
        return Span(stride=Fraction(1, self.stride), receptive_field=2)

    def init_state(self, batch: int) -> State:
        """Half a frame of zeros, ``[batch, 1, stride * C_out]``."""
        return self.bias.new_zeros(batch, 1, self.patch)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        assert isinstance(state, Tensor)
        now, later = self.linear(x).split(self.patch, dim=-1)
        tails = torch.cat((state.to(later.dtype), later), dim=1)
        y = (now + tails[:, :-1]).reshape(x.shape[0], -1, self.out_channels)
        return y + self.bias, tails[:, -1:]


class RMSNorm(nn.Module):
    """Scale each frame to unit root-mean-square over its channels (arXiv:1910.07467).

    Over channels and never over time, which would break streaming. Frames much fainter than
    `NORM_FLOOR` stay faint, so that the layers after it do not amplify silence.

    Shapes: ``[B, T, C] -> [B, T, C]``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), eps=NORM_FLOOR**2)


# RMS. Companded features of speech have about unit RMS.
NORM_FLOOR = 0.1
# Trained features stay far below. Without a limit, a hidden channel that is rarely active can grow
# until it dominates the output: that ended long runs at a learning rate of 1e-3.
HIDDEN_LIMIT = 6.0


class ResidualUnit(nn.Module):
    """``x + project(silu(dilated_convolution(norm(x))))`` with a bounded activation.

    The projection is initialised to zero, so that a deep stack starts as the identity and stays
    trainable. Kernel size and dilation are those of a `CausalConv1d`.

    Shapes: ``[B, T, C] -> [B, T, C]``.
    """

    def __init__(self, channels: int, kernel_size: int, dilation: int) -> None:
        super().__init__()
        self.norm = RMSNorm(channels)
        self.conv = CausalConv1d(channels, channels, kernel_size, dilation=dilation, before="silu")
        self.project = nn.Linear(channels, channels)
        init_zero(self.project)

    @property
    def span(self) -> Span:
        return self.conv.span

    def init_state(self, batch: int) -> State:
        return self.conv.init_state(batch)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = self.conv(self.norm(x), state)
        return x + self.project(F.silu(y.clamp(max=HIDDEN_LIMIT))), state


class RecurrentUnit(nn.Module):
    """``x + project(recurrence(norm(x)))``: a residual unit with unbounded memory.

    The kind is ``"gru"`` (arXiv:1406.1078) or ``"lstm"`` (Hochreiter and Schmidhuber, 1997). The
    state is the hidden vector or, for an LSTM, the hidden and the cell vector. The projection is
    initialised to zero, as in `ResidualUnit`.

    Shapes: ``[B, T, C] -> [B, T, C]``.
    """

    def __init__(self, channels: int, kind: str) -> None:
        super().__init__()
        self.norm = RMSNorm(channels)
        recurrences: dict[str, type[nn.GRU] | type[nn.LSTM]] = {"gru": nn.GRU, "lstm": nn.LSTM}
        self.recurrence = recurrences[kind](channels, channels, batch_first=True)
        self.project = nn.Linear(channels, channels)
        init_zero(self.project)

    @property
    def span(self) -> Span:
        return Span(receptive_field=None)

    def init_state(self, batch: int) -> State:
        """Vectors of zeros, each ``[batch, 1, C]``."""
        hidden = self.project.weight.new_zeros(batch, 1, self.recurrence.hidden_size)
        return (hidden, hidden) if isinstance(self.recurrence, nn.LSTM) else hidden

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        if not x.shape[1]:  # torch's recurrences refuse empty input
            return x, state
        y, state = self.recurrence(self.norm(x), _swap_batch(state))
        return x + self.project(y), _swap_batch(state)


def _swap_batch(state: State) -> State:
    """Convert to torch's order of dimensions, with the batch second, or back from it."""
    if isinstance(state, tuple):
        return tuple(map(_swap_batch, state))
    return state.transpose(0, 1).contiguous()


class Chain(nn.Module):
    """Layers in sequence. The state is the tuple of their states.

    Example:
        >>> chain = Chain([CausalConv1d(1, 8, 2, stride=4), ResidualUnit(8, 3, dilation=2)])
        >>> chain.span
        Span(stride=Fraction(4, 1), latency=Fraction(0, 1), receptive_field=24)
        >>> y, state = chain(torch.zeros(2, 20, 1), chain.init_state(2))
        >>> y.shape
        torch.Size([2, 5, 8])
    """

    layers: Sequence[Layer]

    def __init__(self, layers: Iterable[Layer]) -> None:
        super().__init__()
        self.layers = cast("Sequence[Layer]", nn.ModuleList(cast("Iterable[nn.Module]", layers)))

    @property
    def span(self) -> Span:
        return compose(layer.span for layer in self.layers)

    def init_state(self, batch: int) -> State:
        return tuple(layer.init_state(batch) for layer in self.layers)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        outputs, state = self.trace(x, state)
        return (outputs[-1] if outputs else x), state

    def trace(self, x: Tensor, state: State) -> tuple[list[Tensor], State]:
        """The output of every layer, and the state."""
        assert isinstance(state, tuple)
        outputs, states = [], []
        for layer, layer_state in zip(self.layers, state, strict=True):
            x, layer_state = layer(x, layer_state)
            outputs.append(x)
            states.append(layer_state)
        return outputs, tuple(states)


Activation: TypeAlias = Literal["none", "silu"]


def init_linear(linear: nn.Linear, *, fan_in: int, before: Activation) -> None:
    """Initialise a layer so that it and the activation after it keep the power of a signal.

    By the number of inputs that each output sums, as He et al. (arXiv:1502.01852): with a gain of
    the square root of two if SiLU follows, which like ReLU passes about half of the power; without
    a gain if no activation follows (the rule of Glorot and Bengio, 2010, restricted to inputs). The
    bias becomes zero.
    """
    gain = nn.init.calculate_gain("relu" if before == "silu" else "linear")
    nn.init.normal_(linear.weight, std=gain * fan_in**-0.5)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


def init_zero(linear: nn.Linear) -> None:
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
