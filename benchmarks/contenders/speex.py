"""Speex, through its command-line programs."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import av
import numpy as np
import soundfile

from benchmarks.contenders.base import Contender, Encoded
from benchmarks.contenders.programs import find_programs, run_program
from benchmarks.shared.resampling import resample


class Speex(Contender):
    """Speex, wideband at 16 kHz, through ``speexenc`` and ``speexdec``.

    Raises:
        CodecError: a program is not on the path.
    """

    name = "speex"
    speech_only = True
    programs = ("speexenc", "speexdec")
    programs_from = "speex"
    sample_rate = 16_000
    # Bitrates of the wideband modes for quality 0 to 6 in the manual; actual bits are counted.
    MODES = (3_950, 5_750, 7_750, 9_800, 12_800, 16_800, 20_600)

    def __init__(self) -> None:
        self._encoder, self._decoder = find_programs(self.programs, self.programs_from)

    def bitrates(self) -> tuple[int, ...]:
        return self.MODES

    def encode(self, audio: np.ndarray, bitrate: int) -> Encoded:
        with tempfile.TemporaryDirectory() as folder:
            wav, coded = Path(folder) / "in.wav", Path(folder) / "in.spx"
            soundfile.write(wav, audio, self.sample_rate, subtype="PCM_16")
            quality = str(self.MODES.index(bitrate))
            run_program(self._encoder, "-w", "--quality", quality, wav, coded)
            content = coded.read_bytes()
        with av.open(io.BytesIO(content), "r") as file:
            size = sum(packet.size for packet in file.demux(audio=0))
        return Encoded(content, 8 * size, len(content))

    def decode(self, encoded: Encoded) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            coded, wav = Path(folder) / "in.spx", Path(folder) / "out.wav"
            coded.write_bytes(encoded.content)
            run_program(self._decoder, coded, wav)
            decoded, rate = soundfile.read(wav, dtype="float32")
        return resample(decoded, rate, self.sample_rate)
