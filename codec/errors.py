"""What can go wrong, as one small family: catch :class:`CodecError` and you have it all."""


class CodecError(Exception):
    """Base of every error this package raises on purpose. The message names the remedy."""


class ConfigError(CodecError):
    """A configuration or an argument (bitrate, number of codebooks) is impossible."""


class FormatError(CodecError):
    """Bytes that should be a ``.codes`` stream are not, or are damaged."""


class ModelError(CodecError):
    """A model folder is missing, damaged, or not the one a stream was made with."""


class AudioError(CodecError):
    """An audio file or a block of samples cannot be read, written or coded."""
