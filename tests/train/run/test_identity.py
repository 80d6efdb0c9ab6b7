from __future__ import annotations

import dataclasses

import pytest
import torch

from codec.evaluation.metrics import si_sdr
from codec.network.model import Codec
from tests.conftest import LAPPED
from train.run.identity import initialize_as_identity


@pytest.mark.parametrize("recurrent", ["none", "gru", "lstm"])
def test_a_model_initialized_as_identity_passes_sound_with_any_recurrent_layer(
    recurrent: str,
) -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(
        LAPPED,
        encoder_channels=(20, 40),
        decoder_channels=(20, 40),
        latent_dim=40,
        recurrent=recurrent,
    )
    codec = Codec(config)
    time = torch.arange(4_000) / config.sample_rate
    audio = 0.1 * torch.sin(2 * torch.pi * 700 * time)[None, None]
    quality = []
    for start in (lambda _: None, initialize_as_identity):
        start(codec)
        decoded = codec.synthesize(codec.embed(audio), 4_000)
        quality.append(si_sdr(decoded[..., 200:-200], audio[..., 200:-200]))
    assert quality[0] < 0 and quality[1] > 15
