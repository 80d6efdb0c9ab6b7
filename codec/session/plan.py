"""`Plan`: what a stream of a model, a rate and a packing is like, and whether there is one.

All that decides which combinations are possible is here. Those that are not raise a `ConfigError`
that names the remedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from codec.arguments import check_type, check_whole
from codec.bitrate import Bitrate, ceil_div, format_bitrate
from codec.codes import CodecSpec, Geometry
from codec.engines.base import Engine
from codec.entropy.context import ContextModel
from codec.errors import ConfigError, ModelError
from codec.format.container import (
    CODED_FORMAT,
    END_SIZE,
    MAX_CHANNELS,
    MAX_PACKET_SECONDS,
    PLAIN_FORMAT,
    Header,
    longest_packet,
    max_variable_bits,
)
from codec.format.timeline import Timeline, resampled_length
from codec.rate.allocation import FIRST_RATIO
from codec.rate.modes import Average, Constant, FileSize, Quality, RateLike, as_rate
from codec.rate.redundancy import Redundancy
from codec.rate.search import CANDIDATES
from codec.registry import Model, ModelLike, as_model
from codec.session.packing import PACKET_SECONDS, Packing


@dataclass(frozen=True)
class Plan:
    """What a stream is like, for the stages that make it.

    Attributes:
        model: the model.
        header: header of the stream.
        rate: `Constant`, with as many codebooks as the header says, or what varies their number.
        packing: of the stream.
        context: the context model that codes are coded with; None for plain codes.
        effort: 0 to 3, of the search for codes.
    """

    model: Model
    header: Header
    rate: Constant | Average | Quality
    packing: Packing
    context: ContextModel | None
    effort: int = 0

    @property
    def wait(self) -> int:
        """Packets after the next one that are analysed before it is written, and share its bits.

        Of files they are 64 seconds of audio, all channels together. It decides about bytes.
        """
        if not self.packing.is_file or not isinstance(self.rate, Average):
            return 0
        together = 64.0 * self.model.spec.frame_rate / self.header.channels
        return int(together / self.header.frames_per_packet)

    @property
    def packet_overhead(self) -> int:
        """Bytes of a packet beside its payload: those of the file, or of the transport."""
        return self.header.head_size if self.packing.is_file else self.packing.overhead

    @property
    def head_bits(self) -> int:
        """Bits of a file outside of its packets."""
        return 8 * (self.header.size + END_SIZE) if self.packing.is_file else 0

    def target(self, bitrate: Bitrate) -> float:
        """The part of a mean bitrate that a `RateControl` may spend.

        What a file adds is spent packet by packet; what a transport adds lowers the target.

        Raises:
            ConfigError: the bitrate is out of the model's range, or less than packets take that
                have one code for each frame.
        """
        header, overhead = self.header, self.packet_overhead
        self.model.spec.codebooks_for(bitrate)
        bits_per_byte = 8 / header.seconds(header.frames_per_packet) / header.channels  # a second
        codes = FIRST_RATIO * header.payload_size(header.frames_per_packet) / header.num_codebooks
        # Beside its codes a payload takes a byte: its end, the numbers of codes, and that the
        # context model has no memory of earlier packets. A mean over speech.
        lowest = ceil((overhead + codes + 1.0) * bits_per_byte)
        if bitrate < lowest:
            raise ConfigError(
                f"bitrate {format_bitrate(bitrate)} cannot be reached: {overhead} bytes of "
                f"overhead and a code for each frame take {format_bitrate(lowest)}, give at least "
                "that, or more frames per packet"
            )
        return float(bitrate) - (0.0 if self.packing.is_file else overhead * bits_per_byte)

    def check_redundancy(self, redundancy: Redundancy | None) -> None:
        """Refuse redundancy that the packets of this stream cannot carry.

        Raises:
            ConfigError: they cannot.
        """
        if redundancy is None:
            return
        check_type("redundancy", redundancy, Redundancy)
        if redundancy.frames and self.header.format == PLAIN_FORMAT:
            raise ConfigError(
                "this stream was started without redundancy: start it with "
                "Packing.live(redundancy=Redundancy(0, 0)) to add some later"
            )
        if redundancy.frames and not self.header.can_have_earlier:
            raise ConfigError("only live packets of one frame carry redundancy: give frames=1")

    def plain_bitrate(self) -> Fraction:
        """Bits per second and channel of all bytes of the stream, if its codes are plain."""
        header, spec, num_samples = self.header, self.model.spec, self.packing.num_samples
        frames, rate = header.frames_per_packet, header.original_sample_rate
        bits = 8 * (header.payload_size(frames) + self.packet_overhead)
        if not self.packing.is_file or not num_samples:
            num_samples, rate = frames * header.hop_length, header.sample_rate
        else:
            tailed = header.format != PLAIN_FORMAT
            total = (spec.num_frames_with_tail if tailed else spec.num_frames)(
                Timeline(header).model_length(num_samples)
            )
            whole, rest = divmod(total, frames)
            last = header.payload_size(rest) + self.packet_overhead if rest else 0
            bits = self.head_bits + whole * bits + 8 * last
        return Fraction(bits * rate, num_samples * header.channels)


def make_plan(
    model: ModelLike | None,
    rate: RateLike = None,
    packing: Packing | None = None,
    *,
    channels: int = 1,
    effort: int = 0,
    original_sample_rate: int | None = None,
) -> Plan:
    """The stream of a model, a rate and a packing.

    Args:
        model: as for `codec.session.encoder.StreamEncoder`.
        rate: see `codec.rate.modes`.
        packing: ``Packing.live()`` if None.
        channels: number of channels.
        effort: 0 to 3, of the search for codes.
        original_sample_rate: sampling rate of the audio before it was resampled to the model's.

    Raises:
        ConfigError: there is no such stream.
        ModelError: the model was never saved, or its context model is damaged.

    Example:
        >>> from codec import load_model
        >>> plan = make_plan(load_model(), 3_000, Packing.file())
        >>> plan.header.frames_per_packet, plan.header.variable, plan.wait
        (100, True, 32)
    """
    rate, packing = as_rate(rate), Packing.live() if packing is None else packing
    check_type("packing", packing, Packing)
    channels = check_whole("channels", channels, 1, MAX_CHANNELS)
    loaded = as_model(model)
    spec = loaded.spec
    spec.check_has_codes()
    if not spec.fingerprint:
        raise ModelError("this model has no fingerprint yet: save_codec() and load_codec() it")
    if isinstance(rate, FileSize):
        raise ConfigError("a stream has no size: give another rate, or encode a whole file")
    effort = check_whole("effort", effort, 0, len(CANDIDATES) - 1)
    if effort and loaded.engine.code_tables is None:
        raise ConfigError(f"{spec.name} has no codebooks to search: give effort 0")
    context = None if isinstance(rate, Constant) and rate.plain else loaded.context

    def plan(rate: Constant | Average | Quality) -> Plan:
        header = _header(spec, rate, packing, context, channels, original_sample_rate)
        return Plan(loaded, header, rate, packing, context, effort)

    if context is None and isinstance(rate, Average):
        counts = range(1, spec.num_codebooks + 1)
        return _most_codes([plan(Constant(count)) for count in counts], rate.bitrate)
    if not isinstance(rate, Constant):
        _check_varies(loaded.engine, context)
    found = plan(rate)
    if isinstance(rate, Average):
        found.target(rate.bitrate)
    return found


def _check_varies(engine: Engine, context: ContextModel | None) -> None:
    """Refuse rates that vary the number of codes, for models that cannot."""
    if context is None:
        raise ConfigError(
            "a quality needs a context model: fit one with aecodec fit-context, or give a "
            "constant number of codebooks"
        )
    if type(engine).analyze_step is Engine.analyze_step:
        raise ConfigError(
            f"{engine.spec.name} does not compute the errors of its codes, by which their number "
            "could vary: give a constant number of codebooks"
        )


def _most_codes(plans: Sequence[Plan], bitrate: Bitrate) -> Plan:
    """The plan of most codes, of plans with ever more, whose bytes do not exceed a bitrate."""
    lowest, highest = plans[0].plain_bitrate(), plans[-1].plain_bitrate()
    if not lowest <= bitrate <= highest:
        raise ConfigError(
            f"bitrate {format_bitrate(bitrate)} is out of range: this model has no context model, "
            f"and its plain codes take {format_bitrate(lowest)} to {format_bitrate(highest)} per "
            "channel, all bytes counted"
        )
    return next(plan for plan in reversed(plans) if plan.plain_bitrate() <= bitrate)


def _header(
    spec: CodecSpec,
    rate: Constant | Average | Quality,
    packing: Packing,
    context: ContextModel | None,
    channels: int,
    original_sample_rate: int | None,
) -> Header:
    variable = not isinstance(rate, Constant)
    codebooks = spec.num_codebooks
    if isinstance(rate, Constant) and rate.codebooks is not None:
        codebooks = rate.codebooks
    if not 1 <= codebooks <= spec.num_codebooks:
        raise ConfigError(f"codebooks is {codebooks}: this model has 1 to {spec.num_codebooks}")
    together = min(channels, spec.channels_coded_together)
    bits, groups = sum(spec.bits[: spec.num_codes(codebooks)]), ceil_div(channels, together)
    if variable:
        bits = max_variable_bits(codebooks, pauses=packing.is_file)
    frames = packet_frames(packing, spec, groups, bits)
    original = spec.sample_rate if original_sample_rate is None else original_sample_rate
    # Format 1 has no frames after the last sample. Packets of one frame, of calls, keep it for
    # the three bytes that each saves.
    has_tail = spec.tail > 0 and frames > 1
    return Header(
        channels=channels,
        codebooks=spec.codebooks[:codebooks],
        channels_coded_together=together,
        frames_per_packet=frames,
        sample_rate=spec.sample_rate,
        original_sample_rate=original,
        hop_length=spec.hop_length,
        fingerprint=spec.fingerprint,
        context=context.identity if context else b"",
        variable=variable,
        segments=_num_segments(spec, frames, channels, packing, original) if context else 1,
        pauses=variable and packing.is_file,
        format=CODED_FORMAT if packing.redundancy is not None or has_tail else PLAIN_FORMAT,
        dtx=packing.dtx,
    )


def packet_frames(packing: Packing, spec: Geometry, groups: int, bits: int) -> int:
    """Frames of a packet: of a file as many as last so long, and fewer if so many would not fit.

    Args:
        packing: of the stream.
        spec: of the model.
        groups: number of groups of channels.
        bits: most bits of a frame and group.

    Raises:
        ConfigError: so many frames of a live packet do not fit.

    Example:
        >>> from codec import load_model
        >>> packet_frames(Packing.file(), load_model().spec, groups=1, bits=200)
        100
    """
    most = longest_packet(bits, groups)
    if packing.seconds is not None:
        wanted = int(packing.seconds * spec.frame_rate + 1e-6)  # whole, if seconds are of frames
        return max(1, min(wanted, most))
    most = min(most, int(MAX_PACKET_SECONDS * spec.frame_rate))
    if packing.frames > most:
        raise ConfigError(
            f"packets of {packing.frames} frames: with these codes and channels there may be "
            f"{most} frames at most, give fewer"
        )
    if packing.frames > 1 and (packing.dtx or packing.redundancy is not None):
        raise ConfigError(
            f"packets of {packing.frames} frames neither leave out silence nor carry redundancy: "
            "give frames=1"
        )
    return packing.frames


def _num_segments(
    spec: CodecSpec, frames: int, channels: int, packing: Packing, original_sample_rate: int
) -> int:
    """Parts of a packet that are coded side by side: several in short files, one in long ones.

    Decoding takes a number of steps for each frame of a part, whose time hardly depends on how many
    parts take it together. So there are 16 in a file if it is long enough, and 4 in a packet of two
    seconds at most, for each costs bits: the context is reset.
    """
    if not packing.num_samples:
        return 1
    length = resampled_length(packing.num_samples, original_sample_rate, spec.sample_rate)
    num_frames = spec.num_frames(length)
    rows = max(1, round(num_frames / frames)) * channels
    whole = int(frames * 4 / (PACKET_SECONDS * spec.frame_rate))
    return max(1, min(ceil_div(16, rows), whole, 4))
