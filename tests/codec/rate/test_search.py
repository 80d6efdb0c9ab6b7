"""A search finds codes of less error or fewer bits than the nearest embeddings one by one."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from codec.core.frames import levels_and_weights
from codec.engines.base import CodeTables, Engine
from codec.engines.torch import TorchEngine
from codec.entropy.coding import encode_packets
from codec.entropy.context import NO_CODE, ContextModel, ContextShape
from codec.entropy.payload import PayloadDecoder
from codec.errors import ConfigError
from codec.highpass import high_pass
from codec.network.model import Codec
from codec.rate.modes import Constant, Quality
from codec.rate.search import CANDIDATES, CodeSearch, rate_distortion_search
from codec.registry import Model
from codec.session import planner
from codec.session.encoder import StreamEncoder
from codec.session.packing import Packing
from tests.codec.entropy.oracle import matching_context, random_context
from tests.conftest import sound
from tests.engines import core_engine


def random_tables(rng: np.random.Generator, sizes: Sequence[int] = (8, 8, 8)) -> CodeTables:
    embeddings = [rng.standard_normal((size, 3)).astype(np.float32) for size in sizes]
    maps = rng.standard_normal((len(sizes), 3, 5)).astype(np.float32)
    return CodeTables(embeddings, maps, rng.standard_normal((len(sizes), 5)).astype(np.float32))


def value(tables: CodeTables, codes: tuple[int, ...]) -> np.ndarray:
    total: np.ndarray = sum(
        tables.embeddings[k][code] @ tables.maps[k] + tables.biases[k]
        for k, code in enumerate(codes)
    )
    return total


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sizes", [(8, 8, 8), (16, 4, 8)])
def test_with_all_candidates_the_search_is_exhaustive(seed: int, sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    tables = random_tables(rng, sizes)
    latent = rng.standard_normal((6, 5)).astype(np.float32)
    counts = np.array([1, 2, 3, 3, 2, 0])
    codes, errors = CodeSearch(tables, num_candidates=8**3).candidates(latent, counts)
    for frame, count in enumerate(counts):
        choices = list(itertools.product(*map(range, sizes[:count])))
        every = [np.square(latent[frame] - value(tables, each)).mean() for each in choices]
        assert tuple(codes[frame, 0, :count]) == choices[int(np.argmin(every))]
        assert (codes[frame, :, count:] == NO_CODE).all()
        assert np.allclose(errors[frame, : len(every)], np.sort(every), rtol=1e-4, atol=1e-5)
        assert count == 0 or np.isinf(errors[frame, len(every) :]).all()


def test_threads_share_a_search_and_copies_outlive_it() -> None:
    rng = np.random.default_rng(0)
    search = CodeSearch(random_tables(rng, (64, 64, 64)), num_candidates=16)
    latents = [rng.standard_normal((300, 5)).astype(np.float32) for _ in range(4)]
    counts = np.full(300, 3)
    expected = [search.candidates(latent, counts)[0] for latent in latents]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(search.candidates, latents, [counts] * 4))
    assert np.array_equal([codes for codes, _ in found], expected)
    others = copy.copy(search), copy.deepcopy(search), pickle.loads(pickle.dumps(search))
    del search
    for other in others:
        assert np.array_equal(other.candidates(latents[0], counts)[0], expected[0])


def test_one_candidate_is_the_nearest_entry_of_each_codebook(lapped: Codec) -> None:
    """In both engines, which know the tables from different sources."""
    audio = sound(4_000)
    engines: list[Engine] = [TorchEngine(lapped), core_engine(lapped)]
    for each in engines:
        found, _ = each.analyze_step(audio, each.init_encoder(1))
        counts = np.full(found.latent.shape[1], 4)
        assert each.code_tables is not None
        codes, errors = CodeSearch(each.code_tables, 1).candidates(found.latent[0], counts)
        assert np.array_equal(codes[:, 0].T, found.codes[0])
        assert np.allclose(errors[:, 0], found.errors[0, -1], rtol=1e-4)


def test_engines_give_the_same_latent_but_for_8_bits(lapped: Codec) -> None:
    audio = sound(4_000, channels=2)
    engine, core = TorchEngine(lapped), core_engine(lapped)
    expected = engine.analyze_step(audio, engine.init_encoder(2))[0].latent
    found = core.analyze_step(audio, core.init_encoder(2))[0].latent
    assert found.shape == expected.shape
    assert ((found - expected) ** 2).mean() < 1e-3 * (expected**2).mean()
    empty, _ = core.analyze_step(audio[:, :0], core.init_encoder(2))
    assert empty.latent.shape == (2, 0, found.shape[2]) and empty.codes.shape == (2, 4, 0)


@pytest.mark.parametrize("segments", [1, 3])
def test_the_price_of_bits_decides_between_error_and_size(segments: int) -> None:
    rng = np.random.default_rng(0)
    shape = ContextShape(3, 8, 3, width=8, hidden=5, dilations=(1, 2))
    model = ContextModel(shape, random_context(rng, shape, largest=25))
    latent = rng.standard_normal((20, 5)).astype(np.float32)
    counts = rng.integers(1, 4, 20)
    codes, errors = CodeSearch(random_tables(rng), 16).candidates(latent, counts)
    candidates, costs = codes.reshape(2, 10, 16, 3), errors.reshape(2, 10, 16)
    sizes, total_costs = [], []
    for price in (0.0, 0.02, 0.1, 10.0):
        chosen = rate_distortion_search(model, candidates, costs, price, segments=segments)
        (payload,), _ = encode_packets(model, chosen[None], segments=segments, variable=True)
        same = (candidates == chosen.transpose(0, 2, 1)[:, :, None]).all(axis=3)
        assert same.any(axis=2).all()
        sizes.append(len(payload))
        total_costs.append(costs[same].sum())
    assert np.isclose(total_costs[0], costs.min(axis=2).sum())
    assert sizes[3] < sizes[2] < sizes[0] and total_costs[0] < total_costs[2] < total_costs[3]


@pytest.fixture(scope="module")
def engine(lapped: Codec) -> Model:
    audio = sound(20_000)
    codes = lapped.encode(torch.from_numpy(audio[None]))[0].numpy()
    context = matching_context(np.random.default_rng(0), codes, lapped.config.codebook_size)
    return Model(TorchEngine(lapped), context)


PRICE = 4e-4
"""Decrease of the error per bit, at which about four codes of five are sent."""


@pytest.mark.parametrize("variable", [True, False])
@pytest.mark.parametrize("frames_per_packet", [1, 7])
def test_effort_lowers_the_cost_of_a_stream(
    engine: Model,
    lapped: Codec,
    variable: bool,
    frames_per_packet: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Error and price of the bits together, where the number of codes varies; else the error."""
    if variable:
        monkeypatch.setattr(planner, "quality_lambdas", lambda *_: [PRICE])
    audio = sound(12_320)
    spec = engine.spec
    filtered = high_pass(audio, spec.sample_rate, spec.hop_length)
    padding = spec.num_frames_with_tail(12_320) * spec.hop_length - 12_320
    coded = np.pad(filtered, ((0, 0), (0, padding)))
    latent = engine.engine.analyze_step(coded, engine.engine.init_encoder(1))[0].latent[0]
    weights = (
        levels_and_weights(coded.reshape(len(latent), -1))[1] if variable else np.ones(len(latent))
    )
    costs = []
    for effort in range(len(CANDIDATES)):
        sent = []
        for step in (12_320, 1_001):
            encoder = StreamEncoder(
                engine,
                rate=Quality(5) if variable else Constant(),
                packing=Packing.live(frames_per_packet),
                effort=effort,
            )
            pieces = [audio[:, at : at + step] for at in range(0, audio.shape[1], step)]
            packets = [packet for piece in pieces for packet in encoder.push(piece)]
            sent.append(packets + encoder.finish())
        assert sent[0] == sent[1]
        decoded = PayloadDecoder(encoder.header, engine.context).decode(sent[0])
        codes = np.concatenate([each for each in decoded if each is not None], axis=2)
        assert not variable or 1.5 < (codes >= 0).sum() / len(latent) < 3.5
        values = lapped.require_codes().decode_present(torch.from_numpy(codes))[0].numpy()
        errors = np.square(values - latent).mean(axis=1) * weights
        size = 8 * sum(len(packet.payload) for packet in sent[0])
        costs.append(errors.sum() + (PRICE * size if variable else 0))
    assert costs[3] < costs[1] < costs[0]


def test_effort_out_of_range_and_models_without_tables_are_refused(
    engine: Model, fsq: Codec
) -> None:
    with pytest.raises(ConfigError, match="effort is 4: it must be a whole number from 0 to 3"):
        StreamEncoder(engine, effort=4)
    with pytest.raises(ConfigError, match="no codebooks to search"):
        StreamEncoder(TorchEngine(fsq, "small"), effort=1)
