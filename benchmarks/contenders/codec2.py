"""Codec 2, through its command-line programs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.contenders.base import Contender, Encoded
from benchmarks.contenders.programs import find_programs, run_program


class Codec2(Contender):
    """Codec 2, a vocoder for speech at 8 kHz, through ``c2enc`` and ``c2dec``.

    Raises:
        CodecError: a program is not on the path.
    """

    name = "codec2"
    speech_only = True
    programs = ("c2enc", "c2dec")
    programs_from = "codec2"
    sample_rate = 8_000
    MODES = ("700C", "1300", "1600", "2400", "3200")

    def __init__(self) -> None:
        self._encoder, self._decoder = find_programs(self.programs, self.programs_from)

    def bitrates(self) -> tuple[int, ...]:
        return tuple(int(mode.rstrip("C")) for mode in self.MODES)

    def _mode(self, bitrate: int) -> str:
        return self.MODES[self.bitrates().index(bitrate)]

    def encode(self, audio: np.ndarray, bitrate: int) -> Encoded:
        # The programs drop an incomplete frame; 40 ms (320 samples) is the longest.
        padded = np.pad(audio, (0, -len(audio) % 320))
        mode = self._mode(bitrate)
        with tempfile.TemporaryDirectory() as folder:
            raw, coded = Path(folder) / "in.raw", Path(folder) / "coded"
            raw.write_bytes((padded.clip(-1, 1) * 32767).astype("<i2").tobytes())
            run_program(self._encoder, mode, raw, coded)
            bits = coded.read_bytes()
        return Encoded((mode, bits), 8 * len(bits), len(bits))

    def decode(self, encoded: Encoded) -> np.ndarray:
        mode, bits = encoded.content
        with tempfile.TemporaryDirectory() as folder:
            coded, raw = Path(folder) / "coded", Path(folder) / "out.raw"
            coded.write_bytes(bits)
            run_program(self._decoder, mode, coded, raw)
            return np.frombuffer(raw.read_bytes(), "<i2").astype(np.float32) / 32768
