"""The lapped transform at both ends of a codec: MDCT, companding, and the layers around them.

    encoder   audio -> MDCT -> compand -> project -> features         (`LappedAnalysis`)
    decoder   features -> expand(head) * gain -> coefficients         (`SpectrumHead`)
              coefficients -> inverse MDCT, overlap-add -> audio      (`InverseMDCT`)

and a short-time Fourier transform, whose coefficients can be scaled freely (`ShortTimeTransform`).

The transforms are fixed, have no parameters and run in full precision: errors of their weights or
of rounding leak from loud coefficients into faint ones and mask them, and training the transforms
slows down everything else.
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec.network.layers import RMSNorm, State, init_linear, init_zero
from codec.network.span import Span


class _Lapped(nn.Module):
    """What a transform and its inverse share.

    A basis ``[coefficients, 2 * stride]`` has one windowed function per row.
    """

    basis: Tensor

    def __init__(self, basis: Tensor) -> None:
        super().__init__()
        self.stride = basis.shape[1] // 2
        self.register_buffer("basis", basis, persistent=False)

    def init_state(self, batch: int) -> State:
        """Silence, ``[batch, 1, stride]``."""
        return self.basis.new_zeros(batch, 1, self.stride)


class LappedTransform(_Lapped):
    """A transform of frames of two strides that overlap by one. The state is the newest stride."""

    @property
    def span(self) -> Span:
        """One frame covers two strides of samples."""
        return Span(stride=Fraction(self.stride), receptive_field=2 * self.stride)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        assert isinstance(state, Tensor)
        with torch.autocast(x.device.type, enabled=False):
            x = torch.cat((state, x.float().reshape(x.shape[0], -1, self.stride)), dim=1)
            frames = torch.cat((x[:, :-1], x[:, 1:]), dim=-1)
            return F.linear(frames, self.basis), x[:, -1:]


class InverseLappedTransform(_Lapped):
    """Inverse of a `LappedTransform` by overlap-add. What it returns trails the audio by a stride.

    The state is the second half of the newest frame, to which the first half of the next one will
    be added.
    """

    @property
    def span(self) -> Span:
        """A stride of samples needs two frames and is complete one frame later."""
        return Span(stride=Fraction(1, self.stride), latency=Fraction(1), receptive_field=2)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        assert isinstance(state, Tensor)
        with torch.autocast(x.device.type, enabled=False):
            now, later = (x @ self.basis).chunk(2, dim=-1)
        tails = torch.cat((state, later), dim=1)
        return (now + tails[:, :-1]).reshape(x.shape[0], -1, 1), tails[:, -1:]


class MDCT(LappedTransform):
    """Modified discrete cosine transform with a sine window over two strides.

    Frame *t* is the transform of the samples of stride *t* and of the stride before it.

    Shapes: ``[B, T * stride, 1] -> [B, T, stride]``.
    """

    def __init__(self, stride: int) -> None:
        super().__init__(mdct_basis(stride))


class InverseMDCT(InverseLappedTransform):
    """Inverse of `MDCT`. Shapes: ``[B, T, stride] -> [B, T * stride, 1]``."""

    def __init__(self, stride: int) -> None:
        super().__init__(mdct_basis(stride))


class ShortTimeTransform(LappedTransform):
    """Short-time Fourier transform with a sine window over two strides.

    Unlike the coefficients of an `MDCT`, those of this transform may be scaled from frame to frame
    and from bin to bin without images at other frequencies; there are twice as many.

    Shapes: ``[B, T * stride, 1] -> [B, T, 2, stride + 1]``, real and imaginary parts.
    """

    def __init__(self, stride: int) -> None:
        super().__init__(fourier_basis(stride).flatten(0, 1))

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        spectrum, state = super().forward(x, state)
        return spectrum.unflatten(-1, (2, self.stride + 1)), state


class InverseShortTimeTransform(InverseLappedTransform):
    """Inverse of `ShortTimeTransform`. Shapes: ``[B, T, 2, stride + 1] -> [B, T * stride, 1]``."""

    def __init__(self, stride: int) -> None:
        basis = fourier_basis(stride)
        # Each bin but the first and the last stands for its mirror image, too.
        basis[:, 1:-1] *= 2
        super().__init__(basis.flatten(0, 1) / 2)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().forward(x.flatten(2), state)


class LappedAnalysis(nn.Module):
    """Audio to features: the first layer of an encoder.

    An MDCT, then the magnitude of each coefficient raised to the power `COMPANDING`, then a
    learned projection. Loudness is perceived on a ratio scale; a network that sees raw
    coefficients sees only the loudest ones.

    Shapes: ``[B, T * stride, 1] -> [B, T, C]``.
    """

    def __init__(self, channels: int, *, stride: int) -> None:
        super().__init__()
        self.transform = MDCT(stride)
        self.project = nn.Linear(stride, channels)
        init_linear(self.project, fan_in=stride, before="none")

    @property
    def span(self) -> Span:
        return self.transform.span

    def init_state(self, batch: int) -> State:
        return self.transform.init_state(batch)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        spectrum, state = self.transform(x, state)
        return self.project(compand(spectrum)), state


class SpectrumHead(nn.Module):
    """Features to MDCT coefficients: the last learned layer of a decoder.

    One linear map predicts companded coefficients. A small network predicts a gain for each of
    them from normalised features, since the shape of a spectrum does not depend on its level: this
    learns the energy even where the codes cannot hold the phase (compare the spectral head of
    Vocos, arXiv:2306.00814).

    Shapes: ``[B, T, C] -> [B, T, stride]``.
    """

    def __init__(self, channels: int, *, stride: int) -> None:
        super().__init__()
        self.head = nn.Linear(channels, stride)
        self.norm = RMSNorm(channels)
        self.hidden = nn.Linear(channels, channels)
        self.gain = nn.Linear(channels, stride)
        with torch.no_grad():
            nn.init.normal_(self.head.weight, std=0.1 * channels**-0.5)
            nn.init.zeros_(self.head.bias)
        init_linear(self.hidden, fan_in=channels, before="silu")
        init_zero(self.gain)

    @property
    def span(self) -> Span:
        return Span()

    def init_state(self, batch: int) -> State:
        return ()

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        gain = self.gains(x)
        with torch.autocast(x.device.type, enabled=False):
            return expand(self.head(x.float())) * gain, ()

    def gains(self, x: Tensor) -> Tensor:
        """The factor of each coefficient: ``[B, T, C] -> [B, T, stride]``, in 0..2."""
        # The bound is needed: an early model had a gain of a hundred after silence.
        gain: Tensor = 2 * self.gain(F.silu(self.hidden(self.norm(x)))).float().sigmoid()
        return gain


# Chosen by measurement among 0.3, 0.5, 0.65, 0.8 and 1: towards 0.3 the codes are spent on noise
# that is hardly audible, towards 1 on the loudest partials only.
COMPANDING = 0.6
# With this factor, companded speech has about unit RMS. The floor keeps gradients finite at zero.
COMPANDING_SCALE = 4.0
COMPANDING_FLOOR = 1e-6
EXPANDING_FLOOR: float = COMPANDING_FLOOR**COMPANDING


def compand(x: Tensor) -> Tensor:
    """``sign(x) * |x| ** 0.6``, scaled, and linear near zero."""
    return x * (x.square() + COMPANDING_FLOOR) ** ((COMPANDING - 1) / 2) * COMPANDING_SCALE


def expand(y: Tensor) -> Tensor:
    """Approximate inverse of `compand`."""
    y = y / COMPANDING_SCALE
    return y * (y.square() + EXPANDING_FLOOR) ** ((1 / COMPANDING - 1) / 2)


def compand_complex(x: Tensor) -> Tensor:
    """`compand` of the magnitudes of a spectrum ``[..., 2, bins]``; the phases are kept."""
    gain = _power_law(power(x) + COMPANDING_FLOOR, (COMPANDING - 1) / 2)
    return x * (COMPANDING_SCALE * gain)


def expand_complex(y: Tensor) -> Tensor:
    """Approximate inverse of `compand_complex`."""
    y = y / COMPANDING_SCALE
    return y * _power_law(power(y) + EXPANDING_FLOOR, (1 / COMPANDING - 1) / 2)


def power(spectrum: Tensor) -> Tensor:
    """Squared magnitudes ``[..., 1, bins]`` of a spectrum ``[..., 2, bins]``."""
    real, imaginary = spectrum.square().chunk(2, dim=-2)
    return real + imaginary


def _power_law(x: Tensor, exponent: float) -> Tensor:
    # As the core computes it.
    return (exponent * x.log()).exp()


def mdct_basis(stride: int) -> Tensor:
    """The sine-windowed, orthonormal MDCT basis ``[stride, 2 * stride]``, one function per row.

    Princen, Johnson and Bradley, "Subband/transform coding using filter bank designs based on time
    domain aliasing cancellation", ICASSP 1987.
    """
    time = torch.arange(2 * stride, dtype=torch.float64)
    frequency = torch.arange(stride, dtype=torch.float64)[:, None] + 0.5
    phase = math.pi / stride * (time + 0.5 + stride / 2) * frequency
    window = torch.sin(math.pi / (2 * stride) * (time + 0.5)) * math.sqrt(2 / stride)
    return (phase.cos() * window).float()


def fourier_basis(stride: int) -> Tensor:
    """The sine-windowed Fourier basis ``[2, stride + 1, 2 * stride]`` of real signals.

    Scaled so that noise of unit power has coefficients of about unit power, as with an MDCT.
    """
    time = torch.arange(2 * stride, dtype=torch.float64)
    phase = math.pi / stride * time * torch.arange(stride + 1, dtype=torch.float64)[:, None]
    window = torch.sin(math.pi / (2 * stride) * (time + 0.5)) * stride**-0.5
    basis: Tensor = torch.stack((phase.cos(), -phase.sin())) * window
    return basis.float()
