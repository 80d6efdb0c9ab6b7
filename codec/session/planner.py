"""`Planner`: the second stage of an encoder, which chooses the codes that are sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from codec.arrays import Codes
from codec.bitrate import Bitrate
from codec.entropy.context import NO_CODE
from codec.errors import ConfigError
from codec.rate.allocation import Counts, RateControl
from codec.rate.block import Block
from codec.rate.search import rate_distortion_search
from codec.session.plan import Plan


class Planner:
    """Chooses the codes of each packet: all, or those that a rate control or a search finds.

    Args:
        plan: of the stream.

    Example:
        >>> from codec import load_model
        >>> from codec.session.plan import make_plan
        >>> planner = Planner(make_plan(load_model()))
        >>> [codes.tolist() for codes in planner.push(Block(np.array([[[3], [1]]])))]
        [[[[3], [1]]]]
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._allocator, self._search = plan.allocator(), plan.search()
        self._waiting: deque[Block] = deque()
        if plan.head_bits:
            groups = plan.header.num_groups(plan.header.channels)
            self.spent(plan.head_bits, np.zeros((groups, 0, 0), np.int64))

    def change_bitrate(self, bitrate: Bitrate) -> None:
        """Change the target of an `Average` for what follows.

        Raises:
            ConfigError: the rate is another one, or the bitrate cannot be reached.
        """
        if not isinstance(self._allocator, RateControl):
            raise ConfigError(
                "only an average bitrate can be changed: start the stream with rate=Average(...) "
                "and a model that has a context model"
            )
        self._allocator.change_target(self._plan.target(bitrate))

    def push(self, block: Block) -> Iterator[Codes]:
        """Codes of the packets that need not wait any longer.

        Say with `spent` what a packet took before the next one is taken.

        Args:
            block: the frames of the next packet.

        Yields:
            ``[C, K, T]``, `NO_CODE` where codes are absent.
        """
        self._waiting.append(block)
        while len(self._waiting) > self._plan.wait:
            yield self._next()

    def finish(self) -> Iterator[Codes]:
        """Codes of the packets that still wait, as `push` yields them."""
        while self._waiting:
            yield self._next()

    def spent(self, bits: int, codes: Codes) -> None:
        """Take into account what a packet took.

        Args:
            bits: all that belongs to the packet, of all channels.
            codes: ``[C, K, T]`` of it.
        """
        if self._allocator is not None:
            self._allocator.spent(bits, (codes != NO_CODE).sum(axis=1))

    def _next(self) -> Codes:
        """Codes of the packet that has waited longest."""
        block = self._waiting.popleft()
        if block.slopes is None and block.latent is None:
            return block.codes
        lambda_ = 0.0  # where fewer bits are of no use
        if self._allocator is None:
            shape = len(block.codes), block.num_frames
            counts: Counts = np.full(shape, self._plan.header.num_codes())
        else:
            ahead = [each for each in self._waiting if each.slopes is not None]
            counts = self._allocator.choose(block, ahead if self._plan.wait else None)
            if block.limits is not None:
                counts = np.minimum(counts, block.limits)
            if 0 < self._allocator.lambda_ < np.inf:
                lambda_ = self._allocator.lambda_
        codes = self._searched(block, counts, lambda_)
        present = np.arange(codes.shape[1])[:, None] < counts[:, None]
        return np.where(present, codes, NO_CODE)

    def _searched(self, block: Block, counts: Counts, lambda_: float) -> Codes:
        """The codes of the block, or the best of several candidates for each frame."""
        if self._search is None:
            return block.codes
        assert block.latent is not None and block.weights is not None
        latent = block.latent.reshape(-1, block.latent.shape[-1])
        found, errors = self._search.candidates(latent, counts.reshape(-1))
        candidates = found.reshape(*counts.shape, *found.shape[1:])
        if self._allocator is None or self._plan.context is None:
            return candidates[:, :, 0, : self._plan.header.num_codes()].transpose(0, 2, 1)
        weighted = errors.reshape(candidates.shape[:3]) * block.weights[..., None]
        segments = self._plan.header.segments
        return rate_distortion_search(self._plan.context, candidates, weighted, lambda_, segments)
