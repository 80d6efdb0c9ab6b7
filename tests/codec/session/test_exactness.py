"""What decides the bytes of a stream is the same on every machine."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import Any

import numpy as np
import soundfile

from codec.activity.pauses import PauseDetector
from codec.files.encode import encode
from codec.highpass import high_pass
from codec.rate.modes import Average, Constant, Quality, Rate
from codec.rate.search import CANDIDATES, CodeSearch
from codec.registry import Model, load_model
from codec.session.analyzer import Analyzer
from codec.session.encoder import StreamEncoder
from codec.session.packing import Packing
from codec.session.plan import make_plan
from tests.conftest import RECORDING, REPOSITORY

RATE = 24_000


def sounds() -> dict[str, np.ndarray]:
    """Each of about two seconds, of values that no library rounds."""
    rng = np.random.default_rng(0)
    time = np.arange(2 * RATE)
    speech = soundfile.read(RECORDING, dtype="float32")[0][: 2 * RATE]
    # Triangles: sines would depend on the machine themselves.
    tones = sum(np.abs(time * period % 1024 - 512) for period in (9, 16, 37)) / 4096 - 0.1875
    noise = rng.integers(-3000, 3000, len(time)) / 32768
    pause = noise * np.where((time > 9_000) & (time < 43_000), 2.0**-9, 1.0)
    rumble = speech + 0.25 * (np.abs(time * 2 % 3200 - 1600) / 800 - 1)
    silence = np.concatenate((speech[:20_000], np.zeros(28_000)))
    named = {"speech": speech, "tones": tones, "noise": noise, "pause": pause}
    named |= {"rumble": rumble, "silence": silence}
    return {name: audio.astype(np.float32) for name, audio in named.items()}


def digests() -> list[str]:
    """Of files and live streams of all sounds, with everything that varies."""
    model = load_model(backend="core")
    found = []
    for name, audio in sounds().items():
        streams = {
            "average": encode(audio, RATE, model=model, rate=Average(3_000)),
            "quality": encode(audio, RATE, model=model, rate=Quality(4)),
            "effort": encode(audio[:24_000], RATE, model=model, rate=2_000, effort=1),
        }
        rates: dict[str, Rate] = {"live": Average(6_000), "constant": Constant()}
        for what, rate in rates.items():
            encoder = StreamEncoder(model, rate=rate, packing=Packing.live(dtx=True))
            packets = encoder.push(audio[None]) + encoder.finish()
            streams[what] = b"".join(packet.to_bytes() for packet in packets)
        streams["analysis"] = analysis(model, audio[None])
        found += [
            f"{name} {what} {len(data)} {hashlib.sha256(data).hexdigest()[:16]}"
            for what, data in streams.items()
        ]
    return found


def analysis(model: Model, audio: np.ndarray) -> bytes:
    """The numbers by which codes are chosen, of which bytes show no more than a few."""
    plan = make_plan(model, 3_000, Packing.file(), effort=1)
    analyzer, tables = Analyzer(plan), model.engine.code_tables
    assert tables is not None
    search = CodeSearch(tables, CANDIDATES[1])
    values: list[Any] = [high_pass(audio, RATE)]
    for block in [*analyzer.push(audio), *analyzer.finish()]:
        assert block.slopes is not None and block.latent is not None
        counts = np.full(len(block.latent[0]), 5)
        values += [block.slopes, block.weights, *search.candidates(block.latent[0], counts)]
    detector = PauseDetector(RATE, 480)
    noises = [
        detector.noise_level(audio[:, start : start + 4_800]) for start in range(0, 40_000, 4_800)
    ]
    values.append(np.array(noises, float))
    return b"".join(np.ascontiguousarray(each).tobytes() for each in values)


def test_bytes_depend_neither_on_the_processor_nor_on_how_numpy_was_built() -> None:
    """The slowest ways of the core, NumPy and OpenBLAS choose the same codes as the fastest."""
    features = " ".join(np._core._multiarray_umath.__cpu_dispatch__)  # type: ignore[attr-defined]
    slowest = {
        "AECODEC_KERNEL": "portable",
        "NPY_DISABLE_CPU_FEATURES": features,
        "OPENBLAS_CORETYPE": "Nehalem",
    }
    program = "from tests.codec.session.test_exactness import digests; print(*digests(), sep='\\n')"
    child = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=os.environ | slowest,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert child.stdout.splitlines() == digests()
