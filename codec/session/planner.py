"""`Planner`: the second stage of an encoder, which chooses the codes that are sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from codec.arrays import Codes, Integers
from codec.bitrate import Bitrate
from codec.entropy.context import NO_CODE
from codec.errors import ConfigError
from codec.rate.allocation import RateControl
from codec.rate.block import Block
from codec.rate.modes import Average, Quality
from codec.rate.quality import quality_lambdas
from codec.rate.search import CANDIDATES, CodeSearch, rate_distortion_search
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
        spec, rate = plan.model.spec, plan.rate
        self._control: RateControl | None = None
        self._lambda = 0.0  # fewer bits are of no use at a constant rate
        if isinstance(rate, Average):
            target = plan.target(rate.bitrate)
            self._control = RateControl(target, float(spec.frame_rate), spec.bits[0])
        elif isinstance(rate, Quality):
            [self._lambda] = quality_lambdas(plan.model.engine, [rate.quality])
        tables = plan.model.engine.code_tables if plan.effort else None
        self._search = None if tables is None else CodeSearch(tables, CANDIDATES[plan.effort])
        self._waiting: deque[Block] = deque()
        if plan.head_bits:
            groups = plan.header.num_groups(plan.header.channels)
            self.spent(plan.head_bits, np.zeros((groups, 0, 0), np.int64))

    def change_bitrate(self, bitrate: Bitrate) -> None:
        """Change the target of an `Average` for what follows.

        Raises:
            ConfigError: the rate is another one, or the bitrate cannot be reached.
        """
        if self._control is None:
            raise ConfigError(
                "only an average bitrate can be changed: start the stream with rate=Average(...) "
                "and a model that has a context model"
            )
        self._control.target = self._plan.target(bitrate)

    def push(self, block: Block) -> Iterator[Codes]:
        """Codes of the packets that need not wait any longer.

        Say with `spent` what a packet took before the next one is taken.

        Args:
            block: the frames of the next packet.

        Yields:
            ``[G, K, T]``, `NO_CODE` where codes are absent.
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
            codes: ``[G, K, T]`` of it.
        """
        if self._control is not None:
            self._control.spent(bits, (codes != NO_CODE).sum(axis=1))

    def _next(self) -> Codes:
        """Codes of the packet that has waited longest."""
        block = self._waiting.popleft()
        if block.slopes is None and block.latent is None:
            return block.codes
        if block.slopes is None:
            groups, _, num_frames = block.codes.shape
            counts = np.full((groups, num_frames), self._plan.header.num_codes())
        else:
            if self._control is not None:
                ahead = [each for each in self._waiting if each.slopes is not None]
                self._lambda = self._control.next_lambda(block, ahead if self._plan.wait else None)
            counts = (block.slopes > self._lambda).sum(axis=2)
        codes = self._searched(block, counts)
        present = np.arange(codes.shape[1])[:, None] < counts[:, None]
        return np.where(present, codes, NO_CODE)

    def _searched(self, block: Block, counts: Integers) -> Codes:
        """The codes of the block, or the best of several candidates for each frame."""
        if self._search is None:
            return block.codes
        assert block.latent is not None and block.weights is not None
        latent = block.latent.reshape(-1, block.latent.shape[-1])
        found, errors = self._search.candidates(latent, counts.reshape(-1))
        candidates = found.reshape(*counts.shape, *found.shape[1:])
        if block.slopes is None or self._plan.context is None:
            return candidates[:, :, 0, : self._plan.header.num_codes()].transpose(0, 2, 1)
        weighted = errors.reshape(candidates.shape[:3]) * block.weights[..., None]
        lambda_ = self._lambda if 0 < self._lambda < np.inf else 0.0
        segments = self._plan.header.segments
        return rate_distortion_search(self._plan.context, candidates, weighted, lambda_, segments)
