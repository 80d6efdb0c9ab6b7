"""Opus decoded with NoLACE, the neural post-filter of libopus 1.5 (arXiv:2309.14521)."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from benchmarks.contenders.base import Encoded
from benchmarks.contenders.ffmpeg import Opus
from codec.errors import CodecError

PACKAGE = "@wasm-audio-decoders/opus-ml"
NEURAL_BELOW = 16_000
"""Bitrate below which packets are held to wideband, the bandwidth that NoLACE enhances."""

# Packets come in as a length of 32 bits and their bytes; 32-bit floats go out.
DECODE = """
const { OpusMLDecoder } = require(process.argv[1]);
const input = require("fs").readFileSync(0), packets = [];
for (let at = 0; at < input.length; ) {
  const size = input.readUInt32LE(at);
  packets.push(new Uint8Array(input.subarray(at + 4, at + 4 + size)));
  at += 4 + size;
}
const decoder = new OpusMLDecoder({
  speechQualityEnhancement: "nolace", sampleRate: Number(process.argv[2]),
  channels: 1, streamCount: 1, coupledStreamCount: 0, channelMappingTable: [0],
});
decoder.ready.then(() => {
  const { channelData, errors } = decoder.decodeFrames(packets);
  if (errors.length) throw new Error(errors[0].message);
  require("fs").writeSync(1, Buffer.from(channelData[0].buffer, channelData[0].byteOffset,
                                         channelData[0].byteLength));
  process.exit(0);
});
"""


class OpusNoLACE(Opus):
    """Opus as decoders since libopus 1.5 can play it: packets of `Opus`, decoded with NoLACE.

    Args:
        folder: folder in which ``npm install @wasm-audio-decoders/opus-ml`` was run.

    Raises:
        CodecError: the package or Node.js is missing.
    """

    name = "opus-nolace"
    speech_only = True
    needs_weights = True
    offered: ClassVar[tuple[int, ...]] = (6_000, 8_000, 9_000, 12_000)

    def __init__(self, folder: str | Path) -> None:
        super().__init__(speech=True)
        self._package = self.package(folder)
        if not (self._package / "package.json").is_file():
            raise CodecError(f"{self._package} is missing: run npm install {PACKAGE} in {folder}")
        if shutil.which("node") is None:
            raise CodecError("opus-nolace needs node: install Node.js, or leave it out")

    @classmethod
    def open(cls, model: str = "", *, speech: bool = True) -> Self:
        if not model:
            raise CodecError(f"opus-nolace needs {PACKAGE}: give --peer opus-nolace=FOLDER")
        return cls(model)

    @classmethod
    def open_for_timing(cls) -> Self:
        raise CodecError("opus-nolace is not timed: Node.js starts anew for each recording")

    @staticmethod
    def package(folder: str | Path) -> Path:
        """Where npm installs the decoder."""
        return Path(folder).resolve() / "node_modules" / PACKAGE

    @classmethod
    def weights_file(cls, model: str) -> Path | None:
        return cls.package(model) / "dist" / "opus-ml-decoder.min.js"

    def encode(self, audio: np.ndarray, bitrate: int) -> Encoded:
        if bitrate < NEURAL_BELOW:
            self.options["cutoff"] = "8000"
        return super().encode(audio, bitrate)

    def decode(self, encoded: Encoded) -> np.ndarray:
        packets = encoded.content.packets
        content = b"".join(struct.pack("<I", len(packet)) + packet for packet in packets)
        script = ["node", "-e", DECODE, str(self._package), str(self.sample_rate)]
        result = subprocess.run(script, input=content, capture_output=True, check=False)
        if result.returncode:
            lines = result.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            raise CodecError(f"the decoder of opus-nolace failed: {json.dumps(lines[-1])}")
        return self.without_skip(encoded, np.frombuffer(result.stdout, np.float32))
