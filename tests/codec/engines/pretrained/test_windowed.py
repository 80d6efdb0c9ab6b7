"""Windows of models that look ahead: their overlaps are derived, needed and enough."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason='pip install "aecodec[transformers]"')
pytest.importorskip("snac", reason='pip install "aecodec[snac]"')

from codec.engines.pretrained.families import random_engine
from codec.engines.pretrained.windowed import WindowedEngine, input_span
from tests.codec.engines.pretrained.test_families import CASES
from tests.conftest import sound


def windowed_engine(case: str, **more: Any) -> WindowedEngine:
    family, settings = CASES[case]
    engine = random_engine(family, **settings | more)
    assert isinstance(engine, WindowedEngine)
    return engine


@pytest.mark.parametrize("case", ["dac", "snac", "snac-attention"])
def test_the_derived_receptive_field_is_that_which_perturbing_the_input_shows(case: str) -> None:
    # Noise depends on the frame and is no part of the question.
    engine = windowed_engine(case, **({"noise": False} if "snac" in case else {}))
    spec = engine.spec
    latents = getattr(engine.model.config, "shape", None)
    per_frame = latents.num_latents if latents else 1
    frame, num_frames = 30, 60
    network = engine.model.encoder.double()
    first, last = input_span(network, 0, per_frame - 1)
    x = torch.randn(1, 1, num_frames * spec.hop_length, dtype=torch.float64, requires_grad=True)
    network(x)[..., frame * per_frame : (frame + 1) * per_frame].sum().backward()
    assert x.grad is not None
    heard = x.grad[0, 0].nonzero().flatten() - frame * spec.hop_length
    assert (int(heard[0]), int(heard[-1])) == (first, last)
    assert spec.lookahead >= last + 1 - spec.hop_length > spec.lookahead - spec.hop_length

    network = engine.model.decoder.double()
    first, last = input_span(network, 0, spec.hop_length - 1)
    channels = next(m for m in network.modules() if isinstance(m, torch.nn.Conv1d)).in_channels
    z = torch.randn(1, channels, num_frames * per_frame, dtype=torch.float64, requires_grad=True)
    span = slice(frame * spec.hop_length, (frame + 1) * spec.hop_length)
    network(z)[..., span].sum().backward()
    assert z.grad is not None
    heard = z.grad[0].abs().sum(0).nonzero().flatten() - frame * per_frame
    assert (int(heard[0]), int(heard[-1])) == (first, last)
    assert spec.delay == last // per_frame * spec.hop_length


@pytest.mark.parametrize("case", ["dac", "snac"])
def test_a_shorter_overlap_would_be_heard(case: str) -> None:
    engine = windowed_engine(case)
    hop = engine.spec.hop_length
    codes, _ = engine.encode_step(sound(40 * hop), engine.init_encoder(1))

    def streamed() -> np.ndarray:
        state = engine.init_decoder(1)
        pieces = []
        for start in range(0, 40, 4):
            piece, state = engine.decode_step(codes[:, :, start : start + 4], state)
            pieces.append(piece)
        return np.concatenate(pieces, axis=1)

    right = streamed()
    engine._decoder_left = 0
    assert np.abs(streamed() - right).max() > 1e-3 * np.abs(right).max()
