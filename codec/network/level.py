"""The level of a recording: taken off before the encoder, put back after the decoder.

    encoder   audio -> level of the last seconds -> audio / level -> network -> latent
                                   `------------------------------------------->'
    decoder   latent -> network -> audio
                    `-> `LevelHead` -> level -> audio * level

The networks between see every recording at about the same level, so that quality does not depend on
it. The level is a feature of the latent like any other: it needs no place of its own in a stream.
"""

from __future__ import annotations

from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec.network.layers import CausalConv1d, RMSNorm, State, init_linear, init_zero
from codec.network.span import Span

NORMAL_LEVEL = 0.1
"""RMS of what the networks see. Powers of blocks are relative to that of this level."""
LEVEL_FLOOR = 1e-6
"""Power below which sound is not raised any more: 60 dB below `NORMAL_LEVEL`."""
ATTACK = 0.25
"""Share of the newest block's power that the level has at least, so that no onset is very loud."""
NO_BLOCK, NO_LEVEL = -1.0, -100.0
"""Power and level of the blocks before the first one, which do not count."""


class Leveler(nn.Module):
    """Divide audio by its level: the RMS of the last blocks, or a part of the newest one's.

    The state is the powers of the last blocks and the logarithm of the last level.

    Args:
        block: samples per block; within a block the level is interpolated.
        window: number of blocks.
    """

    def __init__(self, block: int, window: int) -> None:
        super().__init__()
        self.block, self.window = block, window
        ramp = torch.arange(1, block + 1, dtype=torch.float32) / block
        self.register_buffer("ramp", ramp, persistent=False)
        self.register_buffer("ones", torch.ones(1, 1, window), persistent=False)

    @property
    def span(self) -> Span:
        """From audio to audio: the level looks back over the window."""
        return Span(receptive_field=(self.window + 1) * self.block)

    def init_state(self, batch: int) -> State:
        """No block so far. The level of the first one is that of all of its samples."""
        ramp = self.get_buffer("ramp")
        return (
            ramp.new_full((batch, self.window - 1, 1), NO_BLOCK),
            ramp.new_full((batch, 1, 1), NO_LEVEL),
        )

    @torch.no_grad()
    def forward(self, x: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """One piece.

        Args:
            x: audio ``[B, T * block, 1]``.
            state: from `init_state`, or from the call with the previous piece.

        Returns:
            The audio at `NORMAL_LEVEL`, the logarithm of the level of each block relative to that
            ``[B, T, 1]``, and the state.
        """
        assert isinstance(state, tuple)
        earlier, last = state
        assert isinstance(earlier, Tensor) and isinstance(last, Tensor)
        with torch.autocast(x.device.type, enabled=False):
            blocks = x.float().reshape(x.shape[0], -1, self.block)
            power = blocks.square().mean(-1, keepdim=True) / NORMAL_LEVEL**2
            powers = torch.cat((earlier, power), dim=1)
            known = (powers >= 0).float()
            ones = self.get_buffer("ones")
            sums, counts = (F.conv1d(each.mT, ones).mT for each in (powers * known, known))
            mean = torch.maximum(sums / counts, ATTACK * power)
            levels = 0.5 * (mean + LEVEL_FLOOR).log()
            before = torch.cat((last, levels[:, :-1]), dim=1)
            # There is no level before the first block.
            before = torch.where(before == NO_LEVEL, levels, before)
            line = before + (levels - before) * self.get_buffer("ramp")
            leveled = (blocks * (-line).exp()).reshape(x.shape[0], -1, 1)
        return leveled, levels, (powers[:, powers.shape[1] - self.window + 1 :], levels[:, -1:])


class LevelHead(nn.Module):
    """The level of blocks from the features of a decoder, as a factor of each sample.

    Shapes: ``[B, T, C] -> [B, T * block, 1]``. Without training the factor is 1.

    The state is that of a convolution, and the logarithm of the last level.

    Args:
        channels: channels of the features.
        block: samples per block; within a block the level is interpolated.
        hidden: hidden units.
    """

    def __init__(self, channels: int, block: int, hidden: int = 64) -> None:
        super().__init__()
        self.block = block
        self.norm = RMSNorm(channels)
        self.conv = CausalConv1d(channels, hidden, 3, before="silu")
        self.level = nn.Linear(hidden, 1)
        init_zero(self.level)
        ramp = torch.arange(1, block + 1, dtype=torch.float32) / block
        self.register_buffer("ramp", ramp, persistent=False)

    @property
    def span(self) -> Span:
        """From features to samples."""
        return Span(stride=Fraction(1, self.block), receptive_field=self.conv.context + 2)

    def init_state(self, batch: int) -> State:
        """No features so far."""
        return self.conv.init_state(batch), self.get_buffer("ramp").new_zeros(batch, 1, 1)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        assert isinstance(state, tuple)
        context, last = state
        assert isinstance(last, Tensor)
        y, context = self.conv(self.norm(x), context)
        levels = self.level(F.silu(y)).float()
        with torch.autocast(x.device.type, enabled=False):
            before = torch.cat((last, levels[:, :-1]), dim=1)
            line = before + (levels - before) * self.get_buffer("ramp")
            factor = line.exp().reshape(x.shape[0], -1, 1)
        return factor, (context, levels[:, -1:])


def project_level(blocks: int, latent_dim: int) -> nn.Linear:
    """A layer from the levels of a frame's blocks to its latent."""
    layer = nn.Linear(blocks, latent_dim, bias=False)
    init_linear(layer, fan_in=blocks, before="none")
    with torch.no_grad():
        # A factor of e, 9 dB, then moves the latent by a sixth of its length.
        layer.weight *= 0.15
    return layer
