"""Speed of entropy coding compared with plain codes, on one thread, in one run.

    python benchmarks/entropy_speed.py recording.wav [--model FOLDER] [--seconds 6 10 25]

Files: the recording is repeated to the length that is measured. Each figure is the least processor
time of several runs; a ratio of 0.5 means half as fast as the plain file.

Live streams: packets of one frame. All ways of coding take turns with every frame, and encoders
with decoders, as in a call; each figure is the mean over the frames of the least of several runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# Before NumPy is loaded, which reads it once.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import numpy as np
import soundfile

# As a script, it must import from the repository, which is not on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.shared.resampling import resample
from codec import decode_file, encode_file
from codec.arrays import Floats
from codec.model_folder import DEFAULT_MODEL
from codec.rate.modes import Average, Constant, Rate
from codec.registry import Model, load_model
from codec.session.decoder import StreamDecoder
from codec.session.encoder import StreamEncoder

WAYS: dict[str, Rate] = {
    "plain": Constant(plain=True),
    "coded": Constant(),
    "variable": Average(3_000),
}
NUM_CODEBOOKS = (6, 12, 20)
"""Those of live streams; variable ones have the bitrate of the plain codes."""
LIVE_FRAMES = 400
RUNS = 5


def least_seconds(work: Callable[[], object]) -> float:
    """Least processor time of some runs."""
    found = []
    for _ in range(RUNS):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def measure(model: Model, audio: np.ndarray, rate: int) -> dict[str, tuple[float, float, int]]:
    """Seconds of encoding and decoding, and bytes, of each way."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        source, coded, target = (Path(name) / each for each in ("in.wav", "a.codes", "out.wav"))
        soundfile.write(source, audio, rate)
        for way, rate_of_file in WAYS.items():

            def encode(rate_of_file: Rate = rate_of_file) -> None:
                encode_file(source, coded, model=model, rate=rate_of_file, force=True)

            def decode() -> None:
                decode_file(coded, target, model=model, force=True)

            found[way] = least_seconds(encode), least_seconds(decode), coded.stat().st_size
    return found


def measure_live(model: Model, audio: np.ndarray, num_codebooks: int) -> dict[str, Floats]:
    """Milliseconds ``[2]`` of a frame, to encode and to decode, of each way.

    Args:
        model: the model.
        audio: ``[1, T * hop_length]``.
        num_codebooks: of constant rates.
    """
    rates: dict[str, Rate] = {
        "plain": Constant(num_codebooks, plain=True),
        "coded": Constant(num_codebooks),
        "variable": Average(model.spec.plain_bitrate(num_codebooks)),
    }
    frames = np.split(audio, audio.shape[1] // model.spec.hop_length, axis=1)
    runs = []
    for _ in range(RUNS):
        encoders = [StreamEncoder(model, rate=rate) for rate in rates.values()]
        decoders = [StreamDecoder(encoder.header, model) for encoder in encoders]
        taken = np.zeros((len(rates), 2, len(frames)))
        for number, frame in enumerate(frames):
            for way, (encoder, decoder) in enumerate(zip(encoders, decoders, strict=True)):
                began = time.process_time()
                packets = encoder.push(frame)
                encoded = time.process_time()
                decoder.push_all(packets)
                taken[way, :, number] = encoded - began, time.process_time() - encoded
        runs.append(taken)
    least = 1000 * np.min(runs, axis=0).mean(axis=-1)
    return dict(zip(rates, least, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recording", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--seconds", type=int, nargs="+", default=[6, 10, 25])
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    audio, rate = soundfile.read(arguments.recording, dtype="float32", always_2d=True)
    for seconds in arguments.seconds:
        repeated = np.resize(audio[:, 0], seconds * rate)
        found = measure(model, repeated, rate)
        encode, decode, _ = found["plain"]
        for way, (encoding, decoding, size) in found.items():
            print(
                f"{seconds} s, {way}: {size} bytes, speed compared with plain: "
                f"encode {encode / encoding:.2f}, decode {decode / decoding:.2f}",
                flush=True,
            )
    at_model_rate = resample(audio[:, 0], rate, model.spec.sample_rate)
    frames = np.resize(at_model_rate, (1, LIVE_FRAMES * model.spec.hop_length))
    for num_codebooks in NUM_CODEBOOKS:
        live = measure_live(model, frames, num_codebooks)
        for way, (encoding, decoding) in live.items():
            more = ", ".join(f"{each:+.2f}" for each in live[way] - live["plain"])
            print(
                f"a frame, {num_codebooks} codebooks, {way}: encode {encoding:.2f} ms, "
                f"decode {decoding:.2f} ms ({more} ms)",
                flush=True,
            )


if __name__ == "__main__":
    main()
