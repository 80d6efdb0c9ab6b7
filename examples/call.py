"""A call between two processes over UDP, with a network that loses and delays packets.

    python examples/call.py --port 5001 --peer 127.0.0.1:5002 --record a.wav
    python examples/call.py --port 5002 --peer 127.0.0.1:5001 --loss 0.1 --jitter 0.03

Each side sends a recording (``--input FILE``, again and again) or what its microphone hears
(``--input microphone``, which needs the package sounddevice), and records what it hears from the
other side. ``--loss`` and ``--jitter`` disturb what a side sends. The terminal shows what the
network did to the call and how long sound takes from mouth to ear. Ctrl-C ends it on both sides.

Two kinds of datagrams are sent: RTP, see docs/rtp.md, and twice a second a report in JSON, with the
header of the stream for the other side's decoder, the loss that this side observes, and the time at
which its sound began. From the loss the other side chooses its redundancy. From the time it
computes the delay, which is right if both run on one machine and so have one clock.

What does not come from the peer's address and port is ignored, and so is what no peer would send;
the summary counts it. Whoever can forge addresses can still disturb a call: protect real ones with
SRTP.
"""

from __future__ import annotations

import argparse
import heapq
import json
import select
import signal
import socket
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import soundfile
import soxr

from codec import (
    CodecError,
    FormatError,
    Header,
    JitterBuffer,
    Packing,
    Redundancy,
    StreamEncoder,
    load_model,
)
from codec.bitrate import parse_bitrate
from codec.calls.rtp import RtpDepacketizer, RtpPacketizer

REPORT_SECONDS = 0.5
LOSS_SECONDS = 5.0  # time over which the loss is observed
BEHIND_SECONDS = 0.1  # a busy machine that is so far behind leaves out what it cannot make up for
BYE = b"bye"
MAX_REPORT = 1_024  # bytes
MAX_DATAGRAMS = 100  # that are taken when it is time for the next frame
LIMITS = {"start": (-1e10, 1e10), "encoding": (0, 10), "latency": (0, 10), "loss": (0, 1)}


@dataclass(frozen=True)
class Report:
    """What one side tells the other twice a second.

    Attributes:
        header: header of its stream.
        start: time at which its sound began, by its clock.
        encoding: seconds that it takes to encode a frame.
        latency: seconds of its sound card.
        loss: share of packets that it misses.
    """

    header: Header
    start: float
    encoding: float
    latency: float
    loss: float

    def to_bytes(self) -> bytes:
        """The report in JSON."""
        return json.dumps(vars(self) | {"header": self.header.to_bytes().hex()}).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """A report, of which every value was checked.

        Raises:
            FormatError: it is not a report.
        """
        if len(data) > MAX_REPORT:
            raise FormatError(f"a report of {len(data)} bytes: it has {MAX_REPORT} at most")
        try:
            values = json.loads(data)
            header = Header.from_bytes(bytes.fromhex(values["header"]))
            numbers = {name: values[name] for name in LIMITS}
            if not {int, float}.issuperset(map(type, numbers.values())):
                raise FormatError("a report with values that are not numbers")
            numbers = {name: float(value) for name, value in numbers.items()}
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise FormatError(f"{len(data)} bytes are not a report: {error!r:.100}") from error
        for name, (least, most) in LIMITS.items():
            if not least <= numbers[name] <= most:  # nor is NaN
                raise FormatError(
                    f"a report says {name} {numbers[name]:g}: it must lie in {least:g}..{most:g}"
                )
        return cls(header, **numbers)


class Network:
    """Sends datagrams to the peer, some of them late and some of them never."""

    def __init__(
        self, own: socket.socket, peer: tuple[str, int], loss: float, jitter: float
    ) -> None:
        try:
            own.connect(peer)  # so that the system drops what others send
        except OSError as error:
            raise CodecError(f"{':'.join(map(str, peer))} cannot be reached: {error}") from error
        self._own, self._peer, self._loss, self._jitter = own, own.getpeername(), loss, jitter
        self._random = np.random.default_rng(0)
        self._waiting: list[tuple[float, int, bytes]] = []
        self.num_bytes = self._count = 0

    def send(self, data: bytes) -> None:
        """Send a datagram after a random delay, or lose it."""
        self.num_bytes += len(data)
        self._count += 1
        delay = self._random.exponential(self._jitter) if self._jitter else 0.0
        if self._random.random() >= self._loss:
            heapq.heappush(self._waiting, (time.monotonic() + delay, self._count, data))
        self.flush()

    def flush(self) -> None:
        """Send what has waited long enough."""
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            self.send_now(heapq.heappop(self._waiting)[2])

    def send_now(self, data: bytes) -> None:
        """Send a datagram without delay or loss."""
        with suppress(OSError):  # the peer is not there (yet), or the network is away
            self._own.send(data)

    def receive(self) -> bytes:
        """The next datagram; empty if it is not from the peer."""
        try:
            data, sender = self._own.recvfrom(2**16)
        except OSError:  # the peer is not there (yet)
            return b""
        return data if sender == self._peer else b""


class FileInput:
    """A recording, again and again."""

    latency = 0.0

    def __init__(self, path: Path, rate: int) -> None:
        try:
            samples, own_rate = soundfile.read(path, dtype="float32", always_2d=True)
        except (OSError, soundfile.SoundFileError) as error:
            raise CodecError(f"{path} cannot be read: {error}") from error
        self._samples = soxr.resample(samples.mean(axis=1), own_rate, rate)
        self._position = 0

    def read(self, count: int) -> np.ndarray:
        """The next ``count`` samples ``[1, count]``."""
        places = (self._position + np.arange(count)) % max(1, len(self._samples))
        self._position += count
        return np.asarray(self._samples[places], np.float32)[None]


class SoundCard:
    """A microphone or loudspeakers."""

    def __init__(self, kind: str, rate: int, block: int) -> None:
        try:
            import sounddevice
        except (ImportError, OSError) as error:
            raise CodecError(f"no sound card: {error}; pip install sounddevice") from error
        streams = {"input": sounddevice.InputStream, "output": sounddevice.OutputStream}
        try:
            self._stream = streams[kind](rate, block, channels=1, dtype="float32", latency="low")
            self._stream.start()
        except sounddevice.PortAudioError as error:
            raise CodecError(f"no sound {kind}: {error}; use files instead") from error
        self.latency = float(self._stream.latency)

    def read(self, count: int) -> np.ndarray:
        """The next ``count`` samples ``[1, count]``, when they are there."""
        samples, _ = self._stream.read(count)
        return np.asarray(samples).T

    def write(self, frame: np.ndarray) -> None:
        """Play samples ``[1, n]``."""
        self._stream.write(np.ascontiguousarray(frame.T))


class Call:
    """One side of a call."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._model = load_model(options.model)
        spec = self._model.spec
        self._tick = spec.hop_length / spec.sample_rate
        self._input: FileInput | SoundCard
        if options.input == "microphone":
            self._input = SoundCard("input", spec.sample_rate, spec.hop_length)
        else:
            self._input = FileInput(Path(options.input), spec.sample_rate)
        self._speakers = (
            SoundCard("output", spec.sample_rate, spec.hop_length) if options.play else None
        )
        self._record = None
        if options.record:
            try:
                self._record = soundfile.SoundFile(options.record, "w", spec.sample_rate, 1)
            except (OSError, TypeError, soundfile.SoundFileError) as error:
                raise CodecError(f"{options.record} cannot be written: {error}") from error
        bitrate = None if options.bitrate is None else parse_bitrate(options.bitrate)
        # A redundancy, be it none, may become another one later, also without entropy coding.
        self._encoder = StreamEncoder(
            self._model,
            rate=bitrate,
            packing=Packing.live(dtx=options.dtx, redundancy=Redundancy(0, 0)),
        )
        self._packetizer = RtpPacketizer(self._encoder.header, timestamp=0)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind(("", options.port))
        except (OSError, OverflowError) as error:
            raise CodecError(f"port {options.port} is not free: {error}") from error
        self._network = Network(self._socket, options.peer, options.loss, options.jitter)
        self._buffer: JitterBuffer | None = None
        self._depacketizer: RtpDepacketizer | None = None
        self._peer: Report | None = None  # its newest report
        self._ignored = 0  # datagrams that no peer would send
        self._problem = ""  # of the last one
        self._start = self._heard = time.monotonic()
        self._ended = ""
        self._num_reports = 0
        self._frames = 0
        self._behind = 0.0  # seconds that were left out because the machine was too busy
        self._encoding = self._decoding = 0.0  # seconds of a frame, averages
        self._arrivals = 0.0  # seconds from the end of a frame at the peer to its arrival
        self._delay = 0.0  # seconds from mouth to ear
        # Packets due and missing, by report, over the time of which the loss is told.
        self._due = deque([(0, 0)], maxlen=1 + round(LOSS_SECONDS / REPORT_SECONDS))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()
        if self._record is not None:
            self._record.close()

    def run(self) -> str:
        """Talk until someone ends the call, and say who did."""
        print(f"waiting for {':'.join(map(str, self._options.peer))} ...", flush=True)
        try:
            while self._peer is None and not self._ended:
                self._report()
                self._receive_until(time.monotonic() + 0.1)
                if time.monotonic() > self._start + self._options.wait:
                    ignored = f" ({self._problem})" if self._problem else ""
                    raise CodecError(
                        f"nobody answers{ignored}: start the other side, or check --peer"
                    )
            self._start = self._heard = time.monotonic()
            while not self._ended:
                self._one_tick()
        except KeyboardInterrupt:
            self._ended = "you hung up"
        for _ in range(3):  # one of them will arrive
            self._network.send_now(BYE)
        return self._ended

    def _one_tick(self) -> None:
        due = self._start + self._frames * self._tick
        self._receive_until(due)
        behind = time.monotonic() - due
        if behind > BEHIND_SECONDS:
            self._start += behind
            self._behind += behind
        samples = self._input.read(self._model.spec.hop_length)
        begin = time.monotonic()
        for packet in self._encoder.push(samples):
            self._network.send(self._packetizer.packetize([packet]))
        self._encoding += 0.05 * (time.monotonic() - begin - self._encoding)
        if self._buffer is not None:
            begin = time.monotonic()
            number = self._buffer.next_number
            frame = self._buffer.pull(begin)
            self._decoding += 0.05 * (time.monotonic() - begin - self._decoding)
            self._measure_delay(number, begin)
            if self._record is not None:
                self._record.write(frame[0])
            if self._speakers is not None:
                self._speakers.write(frame)
        self._frames += 1
        if self._frames % max(1, round(REPORT_SECONDS / self._tick)) == 0:
            self._report()
            self._show()
        if self._options.seconds and self._frames * self._tick >= self._options.seconds:
            self._ended = "the time is up"
        elif begin > self._heard + self._options.patience:
            self._ended = f"nothing was heard of the peer for {self._options.patience:g} s"

    def _receive_until(self, due: float) -> None:
        """Take and send datagrams until it is time for the next frame."""
        overtime = 0  # datagrams that were taken after that: a flood must not hold up the sound
        while not self._ended and overtime < MAX_DATAGRAMS:
            self._network.flush()
            left = due - time.monotonic()
            # Delayed datagrams are sent up to 2 ms after their time.
            if not select.select([self._socket], [], [], max(0.0, min(left, 0.002)))[0]:
                if left <= 0:
                    return
                continue
            overtime += left <= 0
            data = self._network.receive()
            if data:
                self._take(data, time.monotonic())

    def _take(self, data: bytes, now: float) -> None:
        """A datagram has arrived from the peer, or from somebody who forges its address."""
        try:
            if data == BYE:
                self._ended = "the peer hung up"
            elif data[:1] == b"{":
                self._take_report(Report.from_bytes(data))
            else:
                self._take_packets(data, now)
        except CodecError as error:
            self._ignored += 1
            self._problem = str(error)
        else:
            self._heard = now

    def _take_report(self, report: Report) -> None:
        own, header = self._encoder.header, report.header
        same = ("channels", "sample_rate", "hop_length", "fingerprint", "frames_per_packet")
        if any(getattr(own, name) != getattr(header, name) for name in same):
            raise FormatError("the peer's model, number of channels or packets are others")
        if self._peer is None or self._peer.header != header:
            self._buffer = JitterBuffer(header, self._model, late=self._options.late)
            self._depacketizer = RtpDepacketizer(header)
        self._peer = report
        wanted = self._options.redundancy
        self._encoder.redundancy = Redundancy.for_loss(report.loss if wanted is None else wanted)

    def _take_packets(self, data: bytes, now: float) -> None:
        if self._buffer is None or self._depacketizer is None:
            return  # its report comes soon
        for packet in self._depacketizer.depacketize(data):
            self._buffer.push(packet, now)
            taken = now - self._sent(packet.sequence) - self._tick
            self._arrivals += 0.02 * (taken - self._arrivals)

    def _sent(self, number: int) -> float:
        """Time at which the peer began to hear the frame of a packet."""
        first = self._depacketizer.first_timestamp if self._depacketizer else None
        if self._peer is None or first is None:
            return time.monotonic()
        count = 2**16
        newest = self._buffer.next_number if self._buffer else 0
        number = newest + (number - newest + count // 2) % count - count // 2
        return self._peer.start + first / self._model.spec.sample_rate + number * self._tick

    def _measure_delay(self, number: int, now: float) -> None:
        statistics = self._buffer.statistics if self._buffer else None
        if statistics is not None and statistics.played:
            # The first sample of a frame comes out after the delay of the decoder.
            spec = self._model.spec
            delay = now - self._sent(number) + spec.delay / spec.sample_rate
            delay += self._decoding + self._latency()
            self._delay += (delay - self._delay) * (0.05 if self._delay else 1.0)

    def _latency(self) -> float:
        """Seconds of both sound cards, as far as this side knows them."""
        output = self._speakers.latency if self._speakers is not None else 0.0
        return output + (self._peer.latency if self._peer else 0.0)

    def _report(self) -> None:
        statistics = self._buffer.statistics if self._buffer is not None else None
        if statistics is not None:
            missing = statistics.recovered + statistics.concealed
            self._due.append((statistics.played + missing, missing))
        due, missing = (a - b for a, b in zip(self._due[-1], self._due[0], strict=True))
        report = Report(
            self._encoder.header,
            # A frame is read when its last sample has been heard.
            start=self._start - self._tick,
            encoding=self._encoding,
            latency=self._input.latency,
            loss=min(max(missing / due, 0.0), 1.0) if due > 0 else 0.0,
        )
        self._num_reports += 1
        self._network.send_now(report.to_bytes())

    def _show(self) -> None:
        """The statistics in one line, which a terminal shows in one place."""
        terminal = sys.stdout.isatty()
        every = 1 if terminal else round(5 / REPORT_SECONDS)
        if self._buffer is None or self._num_reports % every:
            return
        print(("\r\x1b[K" if terminal else "") + self._line(), end="" if terminal else "\n")
        sys.stdout.flush()

    def _line(self) -> str:
        if self._buffer is None:
            return "nothing was heard"
        s = self._buffer.statistics
        kbits = 8 * self._network.num_bytes / max(1, self._frames) / self._tick / 1000
        return (
            f"{self._frames * self._tick:.0f} s  missing {100 * s.loss:.1f} %  "
            f"recovered {s.recovered}  concealed {s.concealed}  late {s.late}  "
            f"jitter {1000 * s.jitter:.0f} ms  depth {1000 * s.depth:.0f} ms  "
            f"delay {1000 * self._delay:.0f} ms  sends {kbits:.1f} kbit/s"
        )

    def summary(self) -> str:
        """What happened, and where the delay comes from."""
        lines = [self._line()]
        if self._ignored:
            lines.append(f"{self._ignored} datagrams were ignored, the last one: {self._problem}")
        if self._behind:
            lines.append(f"this machine was too busy for {self._behind:.1f} s of the call")
        if self._buffer is None or not self._delay:
            return "\n".join(lines)
        spec, s = self._model.spec, self._buffer.statistics
        encoding = self._peer.encoding if self._peer else 0.0
        parts = {
            "a frame": self._tick,
            "encoding": encoding,
            "network": self._arrivals - encoding,
            "jitter buffer": 0.0,
            "decoding": self._decoding,
            "delay of the decoder": spec.delay / spec.sample_rate,
            "sound cards": self._latency(),
        }
        parts["jitter buffer"] = self._delay - sum(parts.values())
        lines += [
            f"received {s.received}, duplicates {s.duplicates}, late {s.late}, played {s.played}, "
            f"recovered {s.recovered}, concealed {s.concealed}, silent {s.silent}, "
            f"stretched {s.stretched}, dropped {s.dropped}",
            f"mouth to ear {1000 * self._delay:.1f} ms: "
            + ", ".join(f"{name} {1000 * value:.1f}" for name, value in parts.items()),
        ]
        return "\n".join(lines)


def address(text: str) -> tuple[str, int]:
    """Host and port of ``"127.0.0.1:5002"``."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 2**16:
        raise argparse.ArgumentTypeError(f"{text!r} is no address: write 127.0.0.1:5002")
    return host, int(port)


def share(text: str) -> float:
    """A share from 0 to 1."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is no share of packets: write 0.1 for 10 %")
    return value


def seconds(text: str) -> float:
    """A time that is finite and not negative."""
    value = float(text)
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is no time: write 0.03 for 30 ms")
    return value


def main() -> None:
    """Make a call."""
    # Shells start what runs in the background with Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    example = Path(__file__).parent / "speech.flac"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True, help="own UDP port")
    parser.add_argument("--peer", type=address, required=True, help="HOST:PORT of the other side")
    parser.add_argument("--input", default=str(example), help='a recording, or "microphone"')
    parser.add_argument("--record", type=Path, help="file for what is heard")
    parser.add_argument("--play", action="store_true", help="play it with sounddevice")
    parser.add_argument("--model", default="speech24k", help="packaged model, or model folder")
    parser.add_argument("--bitrate", help="such as 3k; the model's highest by default")
    parser.add_argument(
        "--redundancy", type=share, help="loss to be prepared for (default: as it is observed)"
    )
    parser.add_argument("--dtx", action="store_true", help="leave out silence")
    parser.add_argument("--late", type=share, default=0.01, help="share of frames that may be late")
    parser.add_argument("--loss", type=share, default=0.0, help="share of packets that is lost")
    parser.add_argument("--jitter", type=seconds, default=0.0, help="mean random delay in seconds")
    parser.add_argument("--seconds", type=seconds, help="end by itself after so long")
    parser.add_argument("--wait", type=seconds, default=30.0, help="seconds to wait for the peer")
    parser.add_argument(
        "--patience", type=seconds, default=5.0, help="seconds after which a silent peer is gone"
    )
    try:
        with Call(parser.parse_args()) as call:
            ended = call.run()
            print(f"\n{ended}\n{call.summary()}")
    except CodecError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(0)  # before the call had begun


if __name__ == "__main__":
    main()
