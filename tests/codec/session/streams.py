"""Streams that today's encoders do not make, and decoders read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codec.entropy.payload import PayloadDecoder, PayloadEncoder
from codec.format.container import Header, Packet
from codec.rate.modes import Constant
from codec.rate.redundancy import Redundancy
from codec.registry import Model
from codec.session.encoder import StreamEncoder
from codec.session.packing import Packing


def plain_stream(model: Model, audio: np.ndarray, frames: int) -> tuple[Header, list[Packet]]:
    """Plain codes in format 2, which has frames after the last sample."""
    redundancy = Redundancy(0, 0) if frames == 1 else None
    encoder = StreamEncoder(
        model,
        rate=Constant(plain=True),
        channels=len(audio),
        packing=Packing.live(frames, redundancy=redundancy),
    )
    return encoder.header, encoder.push(audio) + encoder.finish()


def chained_stream(model: Model, audio: np.ndarray, frames: int) -> tuple[Header, list[Packet]]:
    """The same codes with inter-packet prediction."""
    plain_header, plain = plain_stream(model, audio, frames)
    assert model.context is not None
    header = replace(plain_header, context=model.context.identity, chained=True)
    encoder, packets = PayloadEncoder(header, model.context), []
    codes = PayloadDecoder(plain_header, None).decode(plain)
    for packet, each in zip(plain, codes, strict=True):
        assert each is not None
        payload, coding = encoder.encode(each)
        packets.append(replace(packet, payload=payload, coding=coding))
    return header, packets
