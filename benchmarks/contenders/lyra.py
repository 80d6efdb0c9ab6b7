"""Lyra v2, through its three TFLite graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmarks.contenders.base import Contender, Encoded
from codec.errors import CodecError

ENCODER, QUANTIZER, DECODER = "soundstream_encoder", "quantizer", "lyragan"


class Lyra(Contender):
    """Lyra v2 (google/lyra), a neural codec for speech at 16 kHz in frames of 20 ms.

    It has no file format; the payload is its quantizers of four bits. The graphs keep their state
    inside the interpreter, so each recording gets new ones.

    Args:
        folder: folder with `soundstream_encoder.tflite`, `quantizer.tflite` and `lyragan.tflite`.

    Raises:
        CodecError: a graph or the package ``ai-edge-litert`` is missing.
    """

    name = "lyra"
    speech_only = True
    packages = ("ai-edge-litert",)
    extra = "peers"
    needs_weights = True
    sample_rate = 16_000
    frame_length = 320
    BITS_PER_CODE = 4
    MAX_CODES = 46
    FRAME_BITS = (64, 120, 184)

    def __init__(self, folder: str | Path) -> None:
        self._graphs = {name: self.graph(folder, name) for name in (ENCODER, QUANTIZER, DECODER)}
        for path in self._graphs.values():
            if not path.is_file():
                raise CodecError(f"{path} is missing: give the folder with the graphs of Lyra v2")
        self._interpreter_class = _interpreter_class()

    @classmethod
    def open(cls, model: str = "", *, speech: bool = True) -> Self:
        if not model:
            raise CodecError("lyra needs its graphs: give --peer lyra=FOLDER")
        return cls(model)

    @classmethod
    def open_for_timing(cls) -> Self:
        raise CodecError("lyra is not timed: its speed without its graphs is unknown")

    @staticmethod
    def graph(folder: str | Path, name: str) -> Path:
        """Path of one of the graphs."""
        return Path(folder) / f"{name}.tflite"

    @classmethod
    def weights_file(cls, model: str) -> Path | None:
        return cls.graph(model, DECODER)

    def bitrates(self) -> tuple[int, ...]:
        return tuple(bits * self.sample_rate // self.frame_length for bits in self.FRAME_BITS)

    def encode(self, audio: np.ndarray, bitrate: int) -> Encoded:
        """Encode ``[N]`` float32; the content is codes ``[T, 46]``, -1 where unused."""
        frame_bits = bitrate * self.frame_length // self.sample_rate
        count = np.array(frame_bits // self.BITS_PER_CODE, np.int32)
        padded = np.pad(audio, (0, -len(audio) % self.frame_length)).astype(np.float32)
        features = self._run(ENCODER, padded.reshape(-1, 1, self.frame_length))
        encode = self._open(QUANTIZER).get_signature_runner("encode")
        codes = np.zeros((len(features), self.MAX_CODES), np.int32)
        for number, frame in enumerate(features):
            codes[number] = encode(input_frames=frame, num_quantizers=count)["output_0"].ravel()
        return Encoded(codes, frame_bits * len(codes), None)

    def decode(self, encoded: Encoded) -> np.ndarray:
        decode = self._open(QUANTIZER).get_signature_runner("decode")
        shaped = encoded.content[:, :, None, None]
        features = [decode(encoding_indices=codes)["output_0"] for codes in shaped]
        if not features:
            return np.zeros(0, np.float32)
        return self._run(DECODER, np.stack(features)).ravel()

    def _open(self, name: str) -> Any:
        interpreter = self._interpreter_class(model_path=str(self._graphs[name]), num_threads=1)
        interpreter.allocate_tensors()
        return interpreter

    def _run(self, name: str, frames: np.ndarray) -> np.ndarray:
        """Outputs of a graph with a state for frames in sequence."""
        interpreter = self._open(name)
        (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
        outputs = []
        for frame in frames:
            interpreter.set_tensor(source["index"], frame)
            interpreter.invoke()
            outputs.append(interpreter.get_tensor(target["index"]))
        return np.stack(outputs) if outputs else np.zeros((0, 1, 1), np.float32)


def _interpreter_class() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise CodecError('lyra needs ai-edge-litert: pip install "aecodec[peers]"') from error
    return Interpreter
