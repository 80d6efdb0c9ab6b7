"""Opus decoded with NoLACE, the neural post-filter of libopus 1.5 (arXiv:2309.14521)."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any, ClassVar, Self

import av
import numpy as np

from benchmarks.contenders import libopus
from benchmarks.contenders.base import Encoded
from benchmarks.contenders.ffmpeg import Opus
from codec.errors import CodecError

PACKAGE = "@wasm-audio-decoders/opus-ml"

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
    """Opus as decoders since libopus 1.5 can play it: wideband packets, decoded with NoLACE.

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

    def encode_packets(self, stream: Any, frame: av.AudioFrame) -> list[av.Packet[Any]]:
        """Those of libopus itself: FFmpeg cannot force wideband, all that NoLACE enhances."""
        timed = super().encode_packets(stream, frame)
        audio = np.zeros(len(timed) * self.sample_rate // 50, np.float32)
        audio[: frame.samples] = frame.to_ndarray()[0]
        packets = libopus.encode_wideband(audio, self.sample_rate, stream.bit_rate)
        return [self._replaced(*pair) for pair in zip(timed, packets, strict=True)]

    @staticmethod
    def _replaced(packet: av.Packet[Any], content: bytes) -> av.Packet[Any]:
        """Another content at the time of a packet."""
        other = av.Packet(content)
        other.stream, other.time_base = packet.stream, packet.time_base
        other.pts, other.dts, other.duration = packet.pts, packet.dts, packet.duration
        return other

    def decode(self, encoded: Encoded) -> np.ndarray:
        packets = encoded.content.packets
        content = b"".join(struct.pack("<I", len(packet)) + packet for packet in packets)
        script = ["node", "-e", DECODE, str(self._package), str(self.sample_rate)]
        result = subprocess.run(script, input=content, capture_output=True, check=False)
        if result.returncode:
            lines = result.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            raise CodecError(f"the decoder of opus-nolace failed: {json.dumps(lines[-1])}")
        return self.without_skip(encoded, np.frombuffer(result.stdout, np.float32))
