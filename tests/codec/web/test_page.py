"""The page in a headless Chromium: sound in, streams out, and the way back."""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from codec import Average, Constant, Quality, Redundancy, StreamEncoder, cut_file, encode_file
from codec.arrays import Codes
from codec.cli.web import copy_page, page_files
from codec.entropy.context import NO_CODE, ContextShape
from codec.entropy.context_file import save_context
from codec.entropy.payload import PayloadDecoder
from codec.files.decode import FileDecoder
from codec.format.container import Header, Packet, PacketWriter
from codec.format.reading import read_streams, summarize_file
from codec.model_folder import DEFAULT_MODEL, read_description
from codec.network.model import Codec
from codec.rate.modes import RateLike
from codec.registry import Model, ModelLike, context_for, load_model
from codec.session.packing import Packing
from tests.browser import Browser, find_browser
from tests.codec.entropy.oracle import random_context
from tests.conftest import RECORDING, REPOSITORY, encode_in_packets, sound
from tests.engines import saved_folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_browser() is None, reason="Chromium is not installed"),
]

IDLE = "!document.querySelector('#result').hasAttribute('aria-busy')"


class Page:
    """The page in a browser.

    Args:
        browser: shows it.
        address: where it is served.
    """

    def __init__(self, browser: Browser, address: str) -> None:
        self._browser = browser
        browser.complaints.clear()
        browser.requests.clear()
        browser.open(address)
        self.wait("!document.querySelector('#bitrate').disabled")
        self.wait(IDLE)

    def evaluate(self, script: str) -> Any:
        return self._browser.evaluate(script)

    def wait(self, condition: str) -> None:
        """Until a JavaScript expression is true."""
        self.evaluate(
            "new Promise((done) => { const timer = setInterval(() => {"
            f"if ({condition}) {{ clearInterval(timer); done(); }} }}, 20); }})"
        )

    def text(self, selector: str) -> str:
        """What is shown there; nothing if it is hidden."""
        shown: str = self.evaluate(
            f"(e => e.checkVisibility() ? e.innerText : '')(document.querySelector('{selector}'))"
        )
        return shown

    def set(self, selector: str, value: object) -> None:
        """Change a control, and wait for what follows."""
        self.evaluate(
            f"(e => {{ e.value = {json.dumps(value)}; e.dispatchEvent(new Event('input'));"
            f"e.dispatchEvent(new Event('change')); }})(document.querySelector('{selector}'))"
        )
        self.wait(IDLE)

    def click(self, selector: str) -> None:
        self.evaluate(f"document.querySelector('{selector}').click()")

    def choose(self, path: Path) -> None:
        """Choose a file, and wait for what follows."""
        root = self._browser.call("DOM.getDocument")["root"]["nodeId"]
        field = self._browser.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        self._browser.call("DOM.setFileInputFiles", nodeId=field, files=[str(path)])
        self.wait(IDLE)

    def drop(self, name: str, data: bytes) -> None:
        """Drop a file, and wait for what follows."""
        self.evaluate(
            "(async () => { const files = new DataTransfer();"
            f"const data = Uint8Array.from(atob('{base64.b64encode(data).decode()}'),"
            "(letter) => letter.charCodeAt(0));"
            f"files.items.add(new File([data], {json.dumps(name)}));"
            "document.body.dispatchEvent(new DragEvent('drop',"
            "{ dataTransfer: files, bubbles: true, cancelable: true })); })()"
        )
        self.wait(IDLE)

    def bytes_of(self, blob: str) -> bytes:
        """Content of a JavaScript blob, or of the promise of one."""
        encoded: str = self.evaluate(
            "new Promise(async (done) => { const reader = new FileReader();"
            "reader.onload = () => done(reader.result.split(',')[1]);"
            f"reader.readAsDataURL(await {blob}); }})"
        )
        return base64.b64decode(encoded)

    def saved(self, link: str) -> bytes:
        """What a link saves."""
        return self.bytes_of(f"(await fetch(document.querySelector('#{link}').href)).blob()")

    def played(self, side: str = "decoded") -> np.ndarray:
        """Samples ``[C, N]`` that the page plays."""
        channels = f"(await import('./app.js')).player.sounds.{side}.channels"
        count = self.evaluate(f"(async () => {channels}.length)()")
        samples = np.frombuffer(self.bytes_of(f"new Blob({channels})"), np.float32)
        return samples.reshape(count, -1)


@pytest.fixture(scope="module")
def second_model(fine: Codec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a second stage and a context model."""
    folder = tmp_path_factory.mktemp("models") / "fine"
    shutil.copytree(saved_folder(fine), folder)  # others use it without context
    config, fingerprint = fine.config, bytes.fromhex(read_description(folder)["fingerprint"])
    shape = ContextShape(config.num_codebooks, config.codebook_size, 3, width=8, hidden=5)
    tensors = random_context(np.random.default_rng(0), shape, largest=5)
    save_context(folder, shape, tensors, fingerprint)
    return folder


@pytest.fixture(scope="module")
def joint_model(stereo: Codec) -> Path:
    """A model that codes two channels together."""
    return saved_folder(stereo)


@pytest.fixture(scope="module")
def address(second_model: Path, joint_model: Path) -> Iterator[str]:
    """Where ``aecodec web`` serves the page."""
    command = [sys.executable, "-m", "codec.cli", "web", "--no-browser", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--model", second_model, "--model", joint_model],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.terminate()
    process.wait()
    process.stdout.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    assert program is not None
    heard = tmp_path_factory.mktemp("microphone") / "heard.wav"
    samples, rate = soundfile.read(RECORDING)
    soundfile.write(heard, np.stack((samples, 0.5 * samples), axis=1), rate)
    options = (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={heard}",
    )
    with Browser(program, tmp_path_factory.mktemp("profile"), *options) as found:
        yield found


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    yield Page(browser, address)
    assert browser.complaints == []
    own = (address, f"blob:{address}")
    assert all(each.startswith(own) for each in browser.requests)  # from nowhere else


def core_model(model: str | Path = DEFAULT_MODEL) -> Model:
    """A model in the core, as the page has it."""
    return load_model(model, backend="core")


def assert_plays(
    page: Page, codes: Path, model: str | Path = DEFAULT_MODEL, codebooks: int | None = None
) -> None:
    """The page plays what the package decodes, to the bit, and something."""
    with codes.open("rb") as file:
        decoding = FileDecoder(file, codes.name, core_model(model), codebooks, "model")
        expected = np.concatenate(list(decoding.blocks()), axis=1)
    np.testing.assert_array_equal(page.played(), expected)
    assert expected.std() > 2e-3


def test_a_file_goes_in_and_a_stream_comes_out(page: Page, tmp_path: Path) -> None:
    page.choose(RECORDING)
    assert page.text("#error") == ""
    assert page.text("#result-title") == RECORDING.name
    codes = tmp_path / "page.codes"
    codes.write_bytes(page.saved("save-codes"))
    assert f"{codes.stat().st_size:,} bytes" in page.text("#facts")
    assert_plays(page, codes)

    assert summarize_file(codes).header.segments == 4


def test_a_file_gives_the_stream_that_the_package_writes(page: Page, tmp_path: Path) -> None:
    """To the bit; browsers read samples of 16 bits with another scale, so they have 32."""
    recording, codes = tmp_path / "recording.wav", tmp_path / "python.codes"
    samples, rate = soundfile.read(RECORDING, dtype="float32")
    soundfile.write(recording, samples, rate, subtype="FLOAT")
    encode_file(recording, codes, model=core_model())
    page.choose(recording)
    assert page.saved("save-codes") == codes.read_bytes()


def test_a_rate_that_varies_gives_the_stream_that_the_package_writes(
    page: Page, tmp_path: Path
) -> None:
    recording, codes = tmp_path / "recording.wav", tmp_path / "python.codes"
    samples, rate = soundfile.read(RECORDING, dtype="float32")
    soundfile.write(recording, samples[:61_001], rate, subtype="FLOAT")
    page.choose(recording)
    for mode, value, text, chosen in (
        ("average", 3_000, "3 kbit/s", Average(3_000)),
        ("quality", 6.2, "6.2 of 10", Quality(6.2)),
        ("constant", 4, "2 kbit/s", Constant(4)),
    ):
        page.set("#mode", mode)
        page.set("#bitrate", value)
        assert page.text("#error") == "" and page.text("#bitrate-text") == text
        encode_file(recording, codes, model=core_model(), rate=chosen, force=True)
        assert page.saved("save-codes") == codes.read_bytes()
        assert_plays(page, codes)


def test_the_rate_does_not_vary_where_there_is_no_context_model(
    page: Page, joint_model: Path, tmp_path: Path
) -> None:
    page.set("#mode", "average")
    page.set("#model", load_model(joint_model).spec.fingerprint.hex())
    assert page.evaluate(
        "[document.querySelector('#mode').value,document.querySelector('#mode').disabled]"
    ) == ["constant", True]
    noise = tmp_path / "noise.wav"
    soundfile.write(noise, sound(9_999, 2).T, 16_000)
    page.choose(noise)
    assert page.text("#error") == "" and page.saved("save-codes")


def read_codes(path: Path, model: ModelLike | None = None) -> tuple[Header, Codes]:
    """Header and codes ``[C, K, T]`` of an undamaged file of one stream."""
    with path.open("rb") as file:
        ((header, items),) = [
            (stream.header, [item for batch in stream.batches for item in batch])
            for stream in read_streams(file)
        ]
    packets = [item for item in items if isinstance(item, Packet)]
    decoder = PayloadDecoder(header, context_for(header, model))
    parts = [codes for codes in decoder.decode(packets) if codes is not None]
    return header, np.concatenate(parts, axis=2)


def test_channels_rates_and_bitrates(page: Page, tmp_path: Path) -> None:
    """A stereo file of another rate whose length is no whole number of frames."""
    samples = soundfile.read(RECORDING)[0][:61_001]
    stereo, codes = tmp_path / "stereo.wav", tmp_path / "stereo.codes"
    soundfile.write(stereo, np.stack((samples, samples[::-1]), axis=1), 44_100)
    page.choose(stereo)
    page.set("#bitrate", 4)
    assert page.text("#bitrate-text") == "2 kbit/s"
    codes.write_bytes(page.saved("save-codes"))
    summary = summarize_file(codes)
    assert (summary.num_samples, summary.header.original_sample_rate) == (61_001, 44_100)
    assert (summary.header.channels, summary.header.num_codebooks) == (2, 4)
    assert summary.damage() is None
    assert_plays(page, codes)


def test_another_model_with_entropy_coding(page: Page, second_model: Path, tmp_path: Path) -> None:
    noise, codes = tmp_path / "noise.wav", tmp_path / "noise.codes"
    soundfile.write(noise, sound(9_999)[0], 8_000)
    page.set("#model", load_model(second_model).spec.fingerprint.hex())
    page.choose(noise)
    codes.write_bytes(page.saved("save-codes"))
    assert read_codes(codes, second_model)[0].segments == 4
    assert_plays(page, codes, second_model)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_channels_are_coded_together(
    page: Page, joint_model: Path, tmp_path: Path, channels: int
) -> None:
    """As by the package, also in groups that lack a channel."""
    noise, codes = tmp_path / "noise.wav", tmp_path / "noise.codes"
    soundfile.write(noise, sound(30_001, channels).T, 11_025, subtype="FLOAT")
    page.set("#model", load_model(joint_model).spec.fingerprint.hex())
    page.choose(noise)
    codes.write_bytes(page.saved("save-codes"))
    assert_plays(page, codes, joint_model)
    encode_file(noise, tmp_path / "python.codes", model=core_model(joint_model))
    (header, ours), (expected, theirs) = (
        read_codes(each, joint_model) for each in (codes, tmp_path / "python.codes")
    )
    assert header == expected and header.format == (2 if channels == 1 else 3)
    assert np.array_equal(ours, theirs)
    page.set("#bitrate", 2)
    codes.write_bytes(page.saved("save-codes"))
    fewer, found = read_codes(codes, joint_model)
    assert fewer.codebooks == header.codebooks[:2]
    assert np.array_equal(found, ours[:, :2])
    plain = f"{float(fewer.plain_bitrate()) / 1000:.3g} kbit/s"
    assert page.text("#bitrate-text") == plain


def test_a_damaged_stream_of_joint_channels_is_heard(
    page: Page, joint_model: Path, tmp_path: Path
) -> None:
    noise, codes = tmp_path / "noise.wav", tmp_path / "noise.codes"
    soundfile.write(noise, sound(30_001, 3).T, 16_000, subtype="FLOAT")
    encode_in_packets(noise, codes, 20, model=joint_model)
    data = bytearray(codes.read_bytes())
    data[1_000] ^= 1
    codes.write_bytes(data)
    page.choose(codes)
    assert page.text("#damage") == "This stream is damaged: 1 packet is damaged or missing."
    assert_plays(page, codes, joint_model)
    page.set("#bitrate", 1)
    assert_plays(page, codes, joint_model, codebooks=1)


@pytest.mark.parametrize("options", [{}, {"rate": 2_500}])
def test_a_stream_of_the_package_is_heard(
    page: Page, second_model: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    noise, codes = tmp_path / "noise.wav", tmp_path / "noise.codes"
    samples = sound(39_999, 2)
    samples[:, 10_000:30_000] *= 0.001
    soundfile.write(noise, samples.T, 16_000)
    encode_file(noise, codes, model=second_model, **options)
    header, found = read_codes(codes, second_model)
    assert header.segments > 1
    assert (found[:, 0] == NO_CODE).any() == header.pauses == header.variable == bool(options)
    page.drop(codes.name, codes.read_bytes())
    assert page.text("#error") == page.text("#original") == ""
    assert_plays(page, codes, second_model)
    assert page.saved("save-codes") == codes.read_bytes()


@pytest.mark.parametrize(("rate", "most"), [(Constant(8), "4 kbit/s"), (4_000, "10 kbit/s")])
def test_a_stream_is_heard_at_a_lower_bitrate(
    page: Page, tmp_path: Path, rate: RateLike, most: str
) -> None:
    codes = tmp_path / "whole.codes"
    encode_file(RECORDING, codes, rate=rate)
    page.choose(codes)
    assert page.text("#bitrate-text") == most
    page.set("#bitrate", 3)
    assert_plays(page, codes, codebooks=3)


def test_a_cut_stream_and_one_after_another(page: Page, tmp_path: Path) -> None:
    whole, cut, both = (tmp_path / f"{name}.codes" for name in ("whole", "cut", "both"))
    encode_file(RECORDING, whole)
    cut_file(whole, cut, span=(1.013, 2.5))
    both.write_bytes(cut.read_bytes() + whole.read_bytes())
    page.choose(both)
    assert page.text("#damage") == ""
    assert_plays(page, both)


def test_a_damaged_stream_gives_its_one_line_and_is_heard(page: Page, tmp_path: Path) -> None:
    codes, damaged = tmp_path / "whole.codes", tmp_path / "damaged.codes"
    encode_in_packets(RECORDING, codes, 20)
    data = bytearray(codes.read_bytes())
    data[1_000] ^= 1
    damaged.write_bytes(data)
    page.choose(damaged)
    assert page.text("#damage") == "This stream is damaged: 1 packet is damaged or missing."
    assert page.text("#error") == ""
    assert_plays(page, damaged)

    damaged.write_bytes(data[:2_000])
    page.drop(damaged.name, damaged.read_bytes())
    assert "it was cut short, and 2 packets are damaged or missing" in page.text("#damage")
    assert_plays(page, damaged)


def test_a_recorded_call_is_heard(page: Page, tmp_path: Path) -> None:
    """With losses, frames of earlier packets, silence that was not sent, and variable bitrate."""
    codes, samples = tmp_path / "call.codes", soundfile.read(RECORDING, dtype="float32")[0][None]
    samples[:, 50_000:90_000] *= 1e-3
    packing = Packing.live(dtx=True, redundancy=Redundancy(2, 2_000))
    encoder = StreamEncoder(core_model(), rate=4_000, packing=packing)
    packets = encoder.push(samples) + encoder.finish()
    with codes.open("wb") as file:
        writer = PacketWriter(file, encoder.header)
        for packet in packets:
            if packet.sequence % 20:
                writer.write(packet)
    page.choose(codes)
    assert page.text("#error") == "" and "missing" in page.text("#damage")
    assert_plays(page, codes)


def test_decoding_can_be_cancelled_and_begun_again(page: Page, tmp_path: Path) -> None:
    codes, long = tmp_path / "whole.codes", tmp_path / "long.codes"
    encode_file(RECORDING, codes)
    long.write_bytes(100 * codes.read_bytes())
    page.evaluate(
        "new MutationObserver((_, observer) => {"
        "if (document.querySelector('#status').textContent.startsWith('Decoding'))"
        "{ observer.disconnect(); document.querySelector('#cancel').click(); } })"
        ".observe(document.querySelector('#status'), { childList: true })"
    )
    page.drop(long.name, long.read_bytes())
    assert page.text("#status") == "Cancelled"
    assert page.text("#error") == page.text("#cancel") == page.text("#result") == ""
    page.drop(codes.name, codes.read_bytes())
    assert_plays(page, codes)


def test_what_cannot_be_used_gives_its_one_line(page: Page, tmp_path: Path) -> None:
    codes = tmp_path / "whole.codes"
    encode_file(RECORDING, codes)
    data = codes.read_bytes()
    other = bytearray(data)
    other[6] = 2
    header = Header.from_bytes(data)
    stranger = dataclasses.replace(header, fingerprint=bytes(16)).to_bytes()
    for name, content, expected in (
        ("notes.txt", b"no sound at all", "notes.txt is neither audio that this browser can"),
        ("empty.wav", b"", "empty.wav is empty"),
        ("broken.wav", b"RIFF" + bytes(40), "broken.wav is neither audio"),
        ("header.codes", bytes(other), "the header of the stream is damaged"),
        ("short.codes", data[:20], "the stream ends inside its header"),
        ("next.codes", b"AECD\x50" + bytes(60), "the stream has format 5.0"),
        (
            "unknown.codes",
            stranger + data[header.size :],
            "aecodec web --model",
        ),
    ):
        page.drop(name, content)
        shown = page.text("#error")
        assert expected in shown and "\n" not in shown, name
        assert page.text("#result") == "", name
    # It goes on afterwards.
    page.choose(codes)
    assert page.text("#error") == ""
    assert_plays(page, codes)


def test_both_sounds_are_played_in_step(page: Page) -> None:
    page.choose(RECORDING)
    position = "import('./app.js').then(({ player }) => player.position)"
    page.click("[data-side=decoded]")
    page.wait("document.querySelector('[data-side=decoded]').innerText === 'Pause the decoded'")
    page.wait("Number(document.querySelector('#position').value) > 0.2")
    before = page.evaluate(position)
    page.click("[data-side=original]")
    assert page.text("[data-side=decoded]") == "Play the decoded"
    assert page.evaluate(position) >= before > 0.2  # it did not begin again
    page.click("[data-side=original]")
    paused = page.evaluate(position)
    assert page.evaluate(position) == paused
    page.set("#position", 6)
    page.click("[data-side=original]")  # to the end
    page.wait("document.querySelector('[data-side=original]').innerText === 'Play the original'")
    assert page.evaluate(position) == 0


def test_the_decoded_sound_can_be_saved(page: Page, tmp_path: Path) -> None:
    page.choose(RECORDING)
    (tmp_path / "saved.wav").write_bytes(page.saved("save-wav"))
    samples, rate = soundfile.read(tmp_path / "saved.wav", always_2d=True)
    assert rate == 24_000
    assert np.abs(samples.T - page.played().clip(-1, 1)).max() < 2**-15


def record(page: Page, codes: Path) -> np.ndarray:
    """Record for a while, and save the stream; the samples ``[C, N]`` that were heard."""
    page.click("#monitor")
    page.click("#record")
    page.wait("document.querySelector('#record').innerText === 'Stop recording'")
    page.evaluate("new Promise((done) => setTimeout(done, 1500))")
    page.click("#record")
    page.wait("document.querySelector('#result').checkVisibility()")
    page.wait(IDLE)
    assert page.text("#error") == ""
    codes.write_bytes(page.saved("save-codes"))
    original = page.played("original")
    assert summarize_file(codes).num_samples == original.shape[1]
    assert (original.std(axis=1) > 0.01).all()
    return original


def test_the_microphone_is_coded_live(page: Page, tmp_path: Path) -> None:
    codes = tmp_path / "recording.codes"
    original = record(page, codes)
    assert len(original) == 1 and original.shape[1] > 12_000
    assert_plays(page, codes)


@pytest.mark.parametrize("mode", ["average", "quality"])
def test_the_microphone_is_coded_live_at_a_rate_that_varies(
    page: Page, tmp_path: Path, mode: str
) -> None:
    codes = tmp_path / "recording.codes"
    page.set("#mode", mode)
    record(page, codes)
    header, found = read_codes(codes)
    assert header.variable and header.num_codebooks == 20
    assert len(set((found != NO_CODE).sum(axis=1)[0].tolist())) > 3
    assert_plays(page, codes)


def test_two_channels_of_the_microphone_are_coded_together_live(
    page: Page, joint_model: Path, tmp_path: Path
) -> None:
    codes = tmp_path / "recording.codes"
    page.set("#model", load_model(joint_model).spec.fingerprint.hex())
    original = record(page, codes)
    assert len(original) == 2 and original.shape[1] > 6_000
    np.testing.assert_allclose(original[1], 0.5 * original[0], atol=1e-3)
    header, found = read_codes(codes, joint_model)
    assert header.channels_coded_together == 2 and found.shape[:2] == (1, header.num_codebooks)
    assert_plays(page, codes, joint_model)


def test_everything_has_a_name_and_fits_a_phone(page: Page, browser: Browser) -> None:
    page.choose(RECORDING)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    focusable = [
        node
        for node in nodes
        if any(p["name"] == "focusable" and p["value"]["value"] for p in node.get("properties", []))
    ]
    names = [node["name"]["value"] for node in focusable if node["role"]["value"] != "RootWebArea"]
    assert len(names) >= 8
    assert all(names)
    images = [node["name"]["value"] for node in nodes if node["role"]["value"] == "image"]
    assert len(images) == 2 and all("12 kHz" in name for name in images)
    size = {"height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.call("Emulation.setDeviceMetricsOverride", width=320, **size)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    browser.call("Emulation.clearDeviceMetricsOverride")


def test_any_web_server_will_do(browser: Browser, tmp_path: Path) -> None:
    """Below a path, without special headers, and so on a page that may have one thread only."""
    copy_page(page_files([DEFAULT_MODEL]), tmp_path / "site" / "page")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = Page(browser, f"http://127.0.0.1:{server.server_port}/page/")
        page.choose(RECORDING)
        codes = tmp_path / "page.codes"
        codes.write_bytes(page.saved("save-codes"))
        assert_plays(page, codes)
        assert page.evaluate("crossOriginIsolated") is False
        server.shutdown()
    assert browser.complaints == []
