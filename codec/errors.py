"""The errors of this package: one small family, all caught by :class:`CodecError`."""


class CodecError(Exception):
    """Base of every error that this package raises on purpose. The message names the remedy."""


class ConfigError(CodecError):
    """A configuration or an argument (bitrate, number of codebooks) is impossible."""


class FormatError(CodecError):
    """Bytes that should be a ``.codes`` stream are not, or are damaged."""


class ModelError(CodecError):
    """A model folder is missing, damaged, or not the one a stream was made with."""


class AudioError(CodecError):
    """An audio file or a block of samples cannot be read, written or coded."""


class StreamFinishedError(CodecError):
    """A streaming session was used after its end."""
