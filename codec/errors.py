"""The errors of this package: one small family, all caught by :class:`CodecError`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class CodecError(Exception):
    """Base of every error that this package raises on purpose. The message names the remedy.

    Example:
        >>> from codec import encode_file
        >>> try:
        ...     encode_file("missing.wav", "out.codes")
        ... except CodecError as error:
        ...     print(error)
        missing.wav does not exist: check the path
    """


class ConfigError(CodecError):
    """A configuration or an argument (bitrate, number of codebooks) is impossible.

    Example:
        >>> from codec import StreamEncoder
        >>> StreamEncoder(rate=100)
        Traceback (most recent call last):
        codec.errors.ConfigError: bitrate 0.1 kbit/s is out of range: this model codes 0.5 kbit/s \
to 10 kbit/s per channel, in steps of 0.5 kbit/s
    """


class FormatError(CodecError):
    """Bytes that should be a ``.codes`` stream are not, or are damaged.

    Example:
        >>> from codec import Header
        >>> Header.from_bytes(b"RIFF")
        Traceback (most recent call last):
        codec.errors.FormatError: not a .codes stream: it does not start with 'AECD'
    """


class ModelError(CodecError):
    """A model folder is missing, damaged, or not the one a stream was made with.

    Example:
        >>> from codec import load_model
        >>> try:
        ...     load_model("missing")
        ... except ModelError as error:
        ...     print(str(error).partition(":")[0])
        no model 'missing'
    """


class AudioError(CodecError):
    """An audio file or a block of samples cannot be read, written or coded.

    Example:
        >>> from codec import StreamEncoder
        >>> StreamEncoder(channels=2).push([[0.0, 0.1]])
        Traceback (most recent call last):
        codec.errors.AudioError: samples have shape [1, 2], this stream takes [2, n]
    """


class StreamFinishedError(CodecError):
    """A streaming session was used after its end.

    Example:
        >>> from codec import StreamEncoder
        >>> encoder = StreamEncoder()
        >>> _ = encoder.finish()
        >>> encoder.push([[0.0]])
        Traceback (most recent call last):
        codec.errors.StreamFinishedError: this stream is finished: start a new StreamEncoder
    """


class NotEnoughMemoryError(CodecError, MemoryError):
    """An engine got no memory for a step.

    Example:
        >>> raise NotEnoughMemoryError.of_step(channels=104)
        Traceback (most recent call last):
        codec.errors.NotEnoughMemoryError: not enough memory for 104 channels at once: close other \
programs, or use shorter packets or fewer channels
    """

    @classmethod
    def of_step(cls, channels: int) -> NotEnoughMemoryError:
        """What is said of a step of that many channels."""
        return cls(
            f"not enough memory for {channels} channels at once: close other programs, or use "
            "shorter packets or fewer channels"
        )


class MissingPackageError(CodecError, ImportError):
    """A part of this package needs others that ``pip install aecodec`` does not bring.

    Example:
        >>> with optional_packages("the tensor interface", "torch"):
        ...     raise ModuleNotFoundError("No module named 'torch'", name="torch")
        Traceback (most recent call last):
        codec.errors.MissingPackageError: the tensor interface needs torch, which is not \
installed: pip install "aecodec[torch]"
    """


OPTIONAL_PACKAGES = {
    *("onnx", "onnx_ir", "onnxscript", "safetensors", "torch"),
    *("librosa", "matplotlib", "onnxruntime", "pystoi", "requests", "speechmos"),
    *("einops", "lightning_fabric", "scipy", "tensorboard"),
    *("av", "huggingface_hub", "pyarrow", "ray", "snac", "transformers"),
}
"""Modules that the extras bring."""


@contextmanager
def optional_packages(purpose: str, extra: str) -> Iterator[None]:
    """Name the extra to install where a package is missing.

    Args:
        purpose: what the packages are for.
        extra: the extra that brings them.

    Raises:
        MissingPackageError: one of `OPTIONAL_PACKAGES` is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in OPTIONAL_PACKAGES:
            raise
        raise MissingPackageError(
            f'{purpose} needs {module}, which is not installed: pip install "aecodec[{extra}]"'
        ) from error
