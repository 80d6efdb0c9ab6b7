"""`StreamEncoder` and `StreamDecoder`: live sessions over one shared, unchanging `Codec`.

A session owns the state of the network and what does not yet fill a packet; it owns no weights.
It always steps by exactly one packet, so the bytes do not depend on how the audio was pushed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from torch import Tensor

from codec.config import Bitrate
from codec.errors import AudioError, FormatError, ModelError
from codec.format import bitpack
from codec.format.container import Header, Packet
from codec.network.model import Codec

Samples = npt.NDArray[np.float32]

# A lost packet fades out over this long, and what follows fades in again.
FADE_SECONDS = 0.02


class StreamEncoder:
    """Samples in, packets out.

    Args:
        codec: the model.
        bitrate: target in bits per second and channel; the model's highest if None.
        channels: channels, each coded on its own.
        frames_per_packet: 1 for calls, more for files (a packet costs 8 bytes of overhead).
        original_sample_rate: if the audio was resampled to the model's rate, the rate it had.

    Attributes:
        header: to be given to the decoder once, before the packets.

    Raises:
        ConfigError: the bitrate is out of the model's range, or the model has no codes.
        FormatError: more channels or frames than a packet can hold.
        ModelError: the model was never saved, so a stream could not name it.
    """

    def __init__(
        self,
        codec: Codec,
        *,
        bitrate: Bitrate | None = None,
        channels: int = 1,
        frames_per_packet: int = 1,
        original_sample_rate: int | None = None,
    ) -> None:
        config = codec.config
        if not codec.fingerprint:
            raise ModelError("this model has no fingerprint yet: save_codec() and load_codec() it")
        self._codec = codec
        self._num_codebooks = config.codebooks_for(bitrate)
        self.header = Header(
            channels=channels,
            num_codebooks=self._num_codebooks,
            bits_per_code=config.bits_per_code,
            frames_per_packet=frames_per_packet,
            sample_rate=config.sample_rate,
            original_sample_rate=original_sample_rate or config.sample_rate,
            hop_length=config.hop_length,
            fingerprint=codec.fingerprint,
        )
        self._state = codec.encoder.init_state(channels)
        self._remainder: Samples = np.zeros((channels, 0), np.float32)
        self._num_samples = 0
        self._num_packets = 0
        self._finished = False

    def push(self, samples: npt.ArrayLike) -> list[Packet]:
        """Code more audio.

        Args:
            samples: ``[C, n]`` at the model's rate, nominally in [-1, 1], any n.

        Returns:
            The packets that are full now; often none.

        Raises:
            AudioError: wrong shape, not finite, or the stream is finished.
        """
        if self._finished:
            raise AudioError("this stream is finished: start a new StreamEncoder")
        block = np.asarray(samples)
        if block.dtype.kind != "f":
            raise AudioError(
                f"samples are {block.dtype}: give floats in [-1, 1] (16-bit integers / 32768)"
            )
        block = block.astype(np.float32, copy=False)
        if block.ndim != 2 or len(block) != self.header.channels:
            raise AudioError(
                f"samples have shape {list(block.shape)}, "
                f"this stream takes [{self.header.channels}, n]"
            )
        if not np.isfinite(block).all():
            raise AudioError("the audio holds NaN or infinite samples: repair it before coding")
        self._num_samples += block.shape[1]
        block = np.concatenate((self._remainder, block), axis=1)
        step = self.header.frames_per_packet * self.header.hop_length
        whole = block.shape[1] // step * step
        self._remainder = block[:, whole:].copy()
        return [self._packet(block[:, start : start + step]) for start in range(0, whole, step)]

    def finish(self, num_samples: int | None = None) -> list[Packet]:
        """Code what is left, padded to a whole frame, into the last packet.

        Args:
            num_samples: length at the original rate, if the audio was resampled.
        """
        if self._finished:
            raise AudioError("this stream is finished: start a new StreamEncoder")
        num_samples = self._num_samples if num_samples is None else num_samples
        if self.header.model_samples(num_samples) != self._num_samples:
            raise AudioError(
                f"{num_samples} samples at {self.header.original_sample_rate} Hz are "
                f"{self.header.model_samples(num_samples)} at the model's rate, "
                f"but {self._num_samples} were pushed"
            )
        padding = -self._remainder.shape[1] % self.header.hop_length
        self._finished = True
        return [self._packet(np.pad(self._remainder, ((0, 0), (0, padding))), num_samples)]

    def _packet(self, block: Samples, num_samples: int | None = None) -> Packet:
        num_frames = block.shape[1] // self.header.hop_length
        payload = b""
        if num_frames:
            with torch.inference_mode():
                audio = torch.from_numpy(np.ascontiguousarray(block))[:, None]
                codes, self._state = self._codec.encode_step(
                    audio, self._state, self._num_codebooks
                )
            in_order = rearrange(codes.numpy(), "channel codebook frame -> frame channel codebook")
            payload = bitpack.pack(in_order, self.header.bits_per_code)
        sequence = self._num_packets % 256
        self._num_packets += 1
        return Packet(sequence, num_frames, payload, num_samples)


class StreamDecoder:
    """Packets in, samples out.

    Samples come as soon as they are known; all of them have come, exactly as many as were
    encoded, when the last packet was pushed or `finish` called.

    Args:
        codec: the model that the header names.
        header: of the stream.
        bitrate: decode no more than this many bits per second and channel; all if None.

    Attributes:
        num_emitted: samples given out so far, per channel.

    Raises:
        ModelError: the stream was made with another model.
        ConfigError: ``bitrate`` is below the model's range.
    """

    def __init__(self, codec: Codec, header: Header, *, bitrate: Bitrate | None = None) -> None:
        check_model(codec, header)
        self._codec = codec
        self.header = header
        self._num_codebooks = header.num_codebooks
        if bitrate is not None and bitrate < codec.config.bitrate(header.num_codebooks):
            self._num_codebooks = codec.config.codebooks_for(bitrate)
        self._state = codec.decoder.init_state(header.channels)
        self._latent = torch.zeros(header.channels, 1, codec.config.latent_dim)
        self._skip = codec.config.delay
        self._gain = 1.0
        self._total: int | None = None  # samples in all, once the last packet told
        self.num_emitted = 0
        self._finished = False

    def push(self, packet: Packet) -> Samples:
        """Decode one packet to samples ``[C, n]`` at the model's rate.

        Packets are decoded in the order they are given: putting them in sequence, and
        saying which are `lost`, is the caller's. After the last packet of a stream nothing is
        left inside.

        Raises:
            FormatError: the packet does not fit the header, or the stream is finished.
        """
        header = self.header
        self._check_running()
        if packet.num_frames > header.frames_per_packet or (
            len(packet.payload) != header.payload_size(packet.num_frames)
        ):
            raise FormatError(
                f"a packet of {packet.num_frames} frames in {len(packet.payload)} bytes "
                "does not fit the stream's header"
            )
        shape = (packet.num_frames, header.channels, header.num_codebooks)
        if packet.num_samples is not None:
            self._total = header.model_samples(packet.num_samples)
        codes = bitpack.unpack(packet.payload, header.bits_per_code, int(np.prod(shape)))
        samples = self._empty()
        if packet.num_frames:
            kept = codes.reshape(shape)[:, :, : self._num_codebooks]
            kept = rearrange(kept, "frame channel codebook -> channel codebook frame")
            with torch.inference_mode():
                latent = self._codec.quantizer.decode(torch.from_numpy(kept))
                samples = self._decode(latent, target_gain=1.0)
        if packet.num_samples is not None:
            samples = np.concatenate((samples, self.finish()), axis=1)
        return samples

    def lost(self, num_packets: int = 1) -> Samples:
        """Conceal packets that did not arrive: the last frame is held and faded out.

        Args:
            num_packets: how many, one after the other; packets are as long as the header says.

        Returns:
            Samples ``[C, n]`` for the time of the lost packets.
        """
        self._check_running()
        if num_packets < 0:
            raise FormatError(f"{num_packets} packets cannot be lost: give 0 or more")
        pieces = [self._empty()]
        with torch.inference_mode():
            for _ in range(num_packets):
                held = self._latent.expand(-1, self.header.frames_per_packet, -1)
                pieces.append(self._decode(held, target_gain=0.0))
        return np.concatenate(pieces, axis=1)

    def finish(self) -> Samples:
        """Bring out what is still inside the decoder.

        Needed only if the last packet of a stream is lost: that one finishes by itself.
        """
        self._check_running()
        self._finished = True
        with torch.inference_mode():
            audio = self._codec.flush_step(self.header.channels, self._state)[:, 0].numpy()
        # After a loss the gain stays where it is: there is nothing to fade in any more.
        return self._emit(audio[:, self._skip : self._codec.config.delay] * np.float32(self._gain))

    def _decode(self, latent: Tensor, target_gain: float) -> Samples:
        self._latent = latent[:, -1:]
        audio, self._state = self._codec.decoder(latent, self._state)
        block: Samples = audio[..., 0].numpy()
        if target_gain != 1.0 or self._gain != 1.0:
            block = block * self._fade(block.shape[1], target_gain)
        skipped = min(self._skip, block.shape[1])
        self._skip -= skipped
        return self._emit(block[:, skipped:])

    def _fade(self, length: int, target: float) -> Samples:
        """A straight line from the present gain to ``target``, which it may reach on the way."""
        slope = 1 / (FADE_SECONDS * self.header.sample_rate)
        steps = np.arange(1, length + 1) * (slope if target > self._gain else -slope)
        gains = np.clip(self._gain + steps, min(self._gain, target), max(self._gain, target))
        self._gain = float(gains[-1])
        faded: Samples = gains.astype(np.float32)
        return faded

    def _emit(self, samples: Samples) -> Samples:
        if self._total is not None:
            samples = samples[:, : max(0, self._total - self.num_emitted)]
        self.num_emitted += samples.shape[1]
        return samples

    def _empty(self) -> Samples:
        return np.zeros((self.header.channels, 0), np.float32)

    def _check_running(self) -> None:
        if self._finished:
            raise FormatError("this stream is finished: start a new StreamDecoder")


def check_model(codec: Codec, header: Header) -> None:
    """Raise a ModelError unless ``header`` names ``codec``."""
    config = codec.config
    if header.fingerprint != codec.fingerprint:
        raise ModelError(
            f"the stream was made with model {header.fingerprint.hex()}, this one is "
            f"{codec.fingerprint.hex()}: give the right folder with --model"
        )
    stream = (header.sample_rate, header.hop_length, header.bits_per_code)
    model = (config.sample_rate, config.hop_length, config.bits_per_code)
    if stream != model or header.num_codebooks > config.num_codebooks:
        raise FormatError(
            "the header contradicts the model that it names: the stream is damaged or forged"
        )
