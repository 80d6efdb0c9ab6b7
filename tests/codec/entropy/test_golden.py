"""Stored streams with a small random context model: their bytes have one meaning, for ever."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from codec.entropy.context import NO_CODE, ContextModel
from codec.entropy.context_file import CONTEXT_FILE, load_context
from codec.entropy.payload import PayloadDecoder, PayloadEncoder
from codec.format.container import Coding, Header, Packet
from codec.format.reading import read_streams
from codec.model_folder import stored_tensors
from tests.codec.entropy.oracle import intervals

GOLDEN = Path(__file__).parents[2] / "golden"

NAMES = ("coded", "variable", "chained")


@pytest.fixture(scope="module")
def context() -> ContextModel:
    found = load_context(GOLDEN, bytes(range(16)))
    assert found is not None
    return found


def read(name: str) -> tuple[Header, list[Packet], list[np.ndarray]]:
    with (GOLDEN / f"{name}.codes").open("rb") as file:
        stream = next(read_streams(file))
        packets = [item for batch in stream.batches for item in batch if isinstance(item, Packet)]
    assert stream.summary.damage() is None
    codes = json.loads((GOLDEN / "coded.json").read_text())[f"{name}.codes"]
    return stream.header, packets, [np.array(each) for each in codes]


@pytest.mark.parametrize("name", NAMES)
def test_golden_coded_streams_hold_the_codes_they_always_held(
    context: ContextModel, name: str
) -> None:
    header, packets, expected = read(name)
    assert header.context == context.identity
    together = PayloadDecoder(header, context).decode(packets)
    decoder = PayloadDecoder(header, context)
    alone = [decoder.decode([packet])[0] for packet in packets]
    for found in (together, alone):
        for codes, golden in zip(found, expected, strict=True):
            assert codes is not None and np.array_equal(codes, golden)


@pytest.mark.parametrize("name", NAMES)
def test_golden_codes_give_the_golden_bytes(context: ContextModel, name: str) -> None:
    header, packets, codes = read(name)
    encoder = PayloadEncoder(header, context)
    for packet, each in zip(packets, codes, strict=True):
        assert encoder.encode(each) == (packet.payload, packet.coding)
    if name == "chained":
        assert {packet.coding for packet in packets} >= {Coding.CODED, Coding.CHAINED}


def test_the_slow_model_says_how_long_golden_payloads_are(context: ContextModel) -> None:
    """From the oracle's frequencies alone, to the byte or two that the range coder adds."""
    header, packets, codes = read("coded")
    data = (GOLDEN / CONTEXT_FILE).read_bytes()
    tensors = {name: each.astype(np.int64) for name, each in stored_tensors(data).items()}
    assert {packet.coding for packet in packets} == {Coding.PLAIN, Coding.CODED}
    for packet, each in zip(packets, codes, strict=True):
        bits = 0.0
        steps = -(-packet.num_frames // header.segments)
        for channel in each:
            for start in range(0, packet.num_frames, steps):
                part = channel[:, start : start + steps]
                found = intervals(context.shape, tensors, part, variable=False)
                bits += sum(16 - np.log2(frequency) for _, frequency in found)
        if packet.coding == Coding.PLAIN:
            assert bits / 8 > len(packet.payload) - 1
        else:
            assert bits / 8 - 1 < len(packet.payload) < bits / 8 + 2


def test_golden_streams_have_pauses_and_few_codes() -> None:
    _, _, codes = read("variable")
    assert (codes[0][:, 0] == NO_CODE).any() and (codes[0][:, 0] != NO_CODE).any()
