"""The public interface: names that ``codec`` imports when they are used, and type checkers see."""

from .calls.jitter import CallStatistics as CallStatistics, JitterBuffer as JitterBuffer
from .codes import Codebook as Codebook, CodecSpec as CodecSpec
from .config import CodecConfig as CodecConfig
from .engines.base import Engine as Engine
from .errors import (
    AudioError as AudioError,
    CodecError as CodecError,
    ConfigError as ConfigError,
    FormatError as FormatError,
    MissingPackageError as MissingPackageError,
    ModelError as ModelError,
    StreamFinishedError as StreamFinishedError,
)
from .files.decode import decode as decode, decode_file as decode_file
from .files.edit import (
    concat_files as concat_files,
    cut_file as cut_file,
    peel_file as peel_file,
)
from .files.encode import encode as encode, encode_file as encode_file
from .format.container import (
    Gap as Gap,
    Header as Header,
    Packet as Packet,
    PacketReader as PacketReader,
    PacketWriter as PacketWriter,
)
from .network.model import Codec as Codec
from .network.weights import load_codec as load_codec, save_codec as save_codec
from .rate.modes import (
    Average as Average,
    Constant as Constant,
    FileSize as FileSize,
    Quality as Quality,
)
from .rate.redundancy import Redundancy as Redundancy
from .registry import Model as Model, load_model as load_model, model_for as model_for
from .session.decoder import StreamDecoder as StreamDecoder
from .session.encoder import StreamEncoder as StreamEncoder
from .session.packing import Packing as Packing

__all__: list[str]
__version__: str
