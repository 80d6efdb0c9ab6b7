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
    return chained(model, *plain_stream(model, audio, frames))


def chained(model: Model, header: Header, packets: list[Packet]) -> tuple[Header, list[Packet]]:
    """The codes of a stream with inter-packet prediction."""
    context = model.context
    assert context is not None
    decoder = PayloadDecoder(header, context if header.context else None)
    header = replace(header, context=context.identity, chained=True)
    encoder, found = PayloadEncoder(header, context), []
    for packet, codes in zip(packets, decoder.decode(packets), strict=True):
        assert codes is not None
        payload, coding = encoder.encode(codes)
        found.append(replace(packet, payload=payload, coding=coding))
    return header, found
