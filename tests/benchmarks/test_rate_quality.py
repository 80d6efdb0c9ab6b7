"""The comparison from its command to its pages, and the pages in a real browser."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import rate_quality, results
from benchmarks.rate_quality import Contender, find_contenders, main, meaning, plan, spread
from benchmarks.shared import listen, recordings
from benchmarks.shared.metrics import METRICS
from benchmarks.shared.plots import Line, draw_lines, label_lines, new_figure
from benchmarks.shared.rate_tables import pair_table, pairs, summarise
from benchmarks.shared.report import origin
from codec.network.weights import load_codec, save_codec
from tests.benchmarks.browser import Browser, find_browser
from tests.conftest import LAPPED, RECORDING, REPOSITORY, make_codec

KINDS = ("speech", "music", "sound")


class Run(NamedTuple):
    """A finished ``--quick`` run.

    Attributes:
        out: its folder.
        printed: its standard output.
        figures: its JSON.
    """

    out: Path
    printed: str
    figures: dict[str, Any]


QUICK = ["--quick", "--seconds", "2", "--jobs", "1", "--peers", "opus,mp3,codec2"]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("quick")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        # Codec 2 must be left out, and said to be, whether its programs are here or not.
        patch.setenv("PATH", str(out))
        main([*QUICK, "--out", str(out)])
    figures = json.loads((out / "rate_quality.json").read_text("utf-8"))
    return Run(out, printed.getvalue(), figures)


def test_quick_runs_on_a_fresh_clone(quick: Run) -> None:
    figures = quick.figures
    assert [row["class"] for row in figures["files"]] == list(KINDS)
    assert {line["codec"] for line in figures["summary"]} == {"aecodec speech24k", "opus", "mp3"}
    assert figures["models"] == {"speech24k": load_codec().fingerprint.hex()}
    assert figures["versions"]["pesq"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", figures["date"])
    assert "install codec2" in figures["absent"]["codec2"]
    for line in figures["summary"]:
        assert line["payload_bitrate"] < line["file_bitrate"]
        shown = {name for name in METRICS if name in line}
        assert ("pesq_wb" in shown) == (line["class"] == "speech")
        assert ("visqol_audio" in shown) == (line["class"] != "speech")
        assert {"mel", "lsd", "si_sdr", "bandwidth", "gain"} <= shown


def test_opus_rises_with_bitrate_in_the_table(quick: Run) -> None:
    opus = [
        line
        for line in quick.figures["summary"]
        if (line["codec"], line["class"]) == ("opus", "speech")
    ]
    for name in ("pesq_wb", "stoi"):
        values = [line[name]["mean"] for line in opus]
        assert values == sorted(values), name


def test_the_table_holds_every_codec_and_bitrate(quick: Run) -> None:
    text = (quick.out / "rate_quality.md").read_text("utf-8")
    assert quick.figures["markdown"].strip() in text
    for line in quick.figures["summary"]:
        rates = f"| {line['codec']} | {line['payload_bitrate'] / 1000:.2f} |"
        assert rates in text
        assert rates in quick.printed
    assert "Not compared: codec2" in text


def test_the_pictures_can_be_read(quick: Run) -> None:
    assert quick.figures["plots"] == ["rate_quality.png", *(f"rate_quality_{k}.png" for k in KINDS)]
    for name in quick.figures["plots"]:
        with Image.open(quick.out / name) as picture:
            assert min(picture.size) > 300
        assert "<svg" in (quick.out / name).with_suffix(".svg").read_text("utf-8")


def test_a_second_run_measures_nothing_again(
    quick: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rate_quality, "code_and_measure", None)
    monkeypatch.setattr(rate_quality, "draw", lambda *_: [])
    monkeypatch.setattr(rate_quality, "make_clips", lambda *_: [])
    monkeypatch.setenv("PATH", str(quick.out))
    kept = {name: (quick.out / name).read_bytes() for name in ("rate_quality.json", "listen.html")}
    main([*QUICK, "--out", str(quick.out)])
    again = json.loads((quick.out / "rate_quality.json").read_text("utf-8"))
    for name, content in kept.items():
        (quick.out / name).write_bytes(content)
    assert again["summary"] == quick.figures["summary"]
    assert "aecodec speech24k" in capsys.readouterr().out


def test_the_page_is_one_file_of_modest_size(quick: Run) -> None:
    page = (quick.out / "listen.html").read_text("utf-8")
    assert len(page) < 15e6
    assert page.count("<audio") == page.count("<img") == sum(3 + 3 + 3 + 1 for _ in KINDS)
    assert not re.search(r'(src|href)="(?!data:)', page)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("no chromium or chrome on this machine")
    with Browser(program, tmp_path / "profile") as browser:
        yield browser


def test_the_browser_notices_what_is_wrong(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "faulty.html"
    page.write_text(
        '<audio src="data:audio/flac;base64,AAAA"></audio><img src="missing.png">'
        "<script>console.error('oops'); undefined.nothing</script>"
    )
    browser.open(page)
    (player,) = browser.evaluate(READY)
    assert player["error"]
    assert browser.evaluate("document.images[0].naturalWidth") == 0
    complaints = " ".join(browser.complaints)
    assert all(word in complaints for word in ("oops", "nothing", "ERR_FILE_NOT_FOUND"))
    assert browser.requests == [page.as_uri(), (tmp_path / "missing.png").as_uri()]


def test_the_page_opens_in_a_browser(quick: Run, browser: Browser) -> None:
    browser.open(quick.out / "listen.html")
    players = browser.evaluate(READY)
    assert len(players) == 30
    assert all(player["ready"] >= 1 and not player["error"] for player in players), players
    assert [player["seconds"] for player in players] == pytest.approx([2.0] * 30, abs=0.05)
    pictures = browser.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth])")
    assert pictures == [[True, listen.WIDTH]] * 30
    # Starting a second version stops the first, and goes on from where it was.
    assert browser.evaluate(SWITCH) == [True, False, True]
    assert browser.complaints == []
    assert browser.requests == [(quick.out / "listen.html").as_uri()]


READY = """Promise.all([...document.querySelectorAll("audio")].map(async player => {
  for (let tries = 0; tries < 200 && player.readyState < 1 && !player.error; tries++)
    await new Promise(done => setTimeout(done, 50));
  return {ready: player.readyState, seconds: player.duration, error: Boolean(player.error)};
}))"""
SWITCH = """(async () => {
  const [first, second] = document.querySelectorAll("audio");
  first.currentTime = 1;
  await first.play();
  await second.play();
  return [first.paused, second.paused, second.currentTime >= 1];
})()"""


def test_the_results_page_has_every_benchmark_that_is_there(quick: Run, tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    pictures = results.make_page([quick.out, tmp_path / "nowhere"], page)
    text = page.read_text("utf-8")
    assert "## Bitrate and quality" in text
    assert "## Speed" not in text
    assert quick.figures["markdown"].strip() in text
    assert quick.figures["models"]["speech24k"] in text
    assert quick.figures["command"] in text
    for target in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (tmp_path / target) in pictures
        with Image.open(tmp_path / target) as picture:
            assert picture.mode == "P"


def test_the_results_page_needs_figures(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="run the benchmarks first"):
        results.main([str(tmp_path)])


def test_absolute_paths_stay_out_of_what_is_published(quick: Run) -> None:
    assert str(quick.out.parent) not in (quick.out / "rate_quality.json").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "nowhere"], "is not a folder"),
        (["--data", str(REPOSITORY / "docs")], "holds no audio files"),
        (["--quick", "--model", "nothing"], "no model 'nothing'"),
        (["--quick", "--bitrates", "100"], "starts at 0.5 kbit/s"),
        (["--quick", "--peers", "lyra"], "no codec 'lyra'"),
    ],
)
def test_wrong_use_is_told_in_one_line(words: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=said):
        main([*words, "--out", str(tmp_path)])


def test_two_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for seed in (0, 1):
        make_codec(LAPPED, tmp_path / str(seed), seed)
    folders = [str(tmp_path / name) for name in "01"]
    contenders, _ = find_contenders(folders, [2000], [], {}, quick=True)
    names = {contender.name for contender in contenders}
    assert len(names) == 2
    assert len(origin(folders)["models"]) == 2
    assert all(name.startswith("aecodec test ") for name in names)
    assert {contender.bitrates for contender in contenders} == {(2000,)}


def test_another_decoder_is_measured_anew(tmp_path: Path) -> None:
    """Though it reads the same streams, and so has the same fingerprint."""
    ours = Contender("ours", "aecodec", str(tmp_path), (2000,))
    codec = make_codec(LAPPED, tmp_path)
    fingerprint = codec.fingerprint
    before = plan([RECORDING], [ours], 1.0, False)
    with torch.no_grad():
        next(codec.decoder.parameters()).mul_(0.5)
    save_codec(codec, tmp_path, name="test")
    assert load_codec(tmp_path).fingerprint == fingerprint
    assert plan([RECORDING], [ours], 1.0, False)[0].cache_key != before[0].cache_key


def test_bitrates_are_spread_over_their_logarithm() -> None:
    assert spread((1, 2, 3), 6) == (1, 2, 3)
    assert spread(range(1, 101), 3) == (1, 10, 100)


def test_a_docstring_is_no_reason_to_measure_again(tmp_path: Path) -> None:
    versions = ['"""One."""\nx = 1  # why\n', '"""Another."""\nx = 1\n', "x = 2\n"]
    meanings = []
    for version in versions:
        (tmp_path / "module.py").write_text(version)
        meanings.append(meaning(tmp_path / "module.py"))
    assert meanings[0] == meanings[1] != meanings[2]


def rows_of(num_files: int, difference: float, spread_of_files: float) -> list[dict[str, Any]]:
    """Speech files of which ours is better by ``difference`` in PESQ, on average."""
    rng = np.random.default_rng(0)
    rows = []
    for level in rng.uniform(1, 4, num_files):
        ours = level + difference + rng.normal(0, spread_of_files)
        figures = [
            {"payload_bitrate": bitrate, "file_bitrate": None, "pesq_wb": value, "mel": 1.0}
            for bitrate, value in ((6000.0, ours), (6100.0, level), (30_000.0, 4.5))
        ]
        codecs = {"aecodec x": {"6000": figures[0]}, "opus": {"6000": figures[1]}}
        rows.append({"class": "speech", "codecs": codecs | {"mp3": {"32000": figures[2]}}})
    return rows


@pytest.mark.parametrize(
    ("num_files", "difference", "column"), [(20, 0.5, 6), (20, -0.5, 7), (20, 0, 8), (4, 0.5, 8)]
)
def test_better_and_worse_need_evidence(num_files: int, difference: float, column: int) -> None:
    """File by file: the spread between files, which both codecs share, does not hide it."""
    found = pairs(rows_of(num_files, difference, 0.3), seed=0)
    assert [line["beside"] for line in found] == ["opus"]
    cells = pair_table(found).splitlines()[-1].split(" | ")
    assert "PESQ-WB" in cells[column - 1]
    assert sum("PESQ-WB" in cell for cell in cells) == 1


def test_means_are_over_the_files_that_have_a_figure() -> None:
    rows = rows_of(5, 0.0, 0.1)
    del rows[0]["codecs"]["opus"]["6000"]["pesq_wb"]
    (line,) = (line for line in summarise(rows, seed=0) if line["codec"] == "opus")
    assert (line["files"], line["pesq_wb"]["files"], line["mel"]["files"]) == (5, 4, 5)
    assert line["file_bitrate"] is None


def test_labels_neither_collide_nor_leave_their_axes() -> None:
    rng = np.random.default_rng(0)
    figure, axes = new_figure(2, 2)
    for panel in axes:
        lines = []
        for name in ("aecodec speech24k", "opus", "mp3", "aac", "codec2", "speex", "mimi"):
            x, y = np.sort(rng.uniform(0.5, 32, 5)), rng.uniform(3, 3.3, 5)
            lines.append(Line(name, x, y, y - 0.02, y + 0.02))
        draw_lines(panel, lines, x_title="payload (kbit/s)", y_title="quality", log_x=True)
    labels = label_lines(figure)
    assert len(labels) == 14
    boxes = [label.get_window_extent() for label in labels]
    for number, box in enumerate(boxes):
        frame = axes[number // 7].get_window_extent()
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1 + 1
        for other in boxes[:number]:
            assert not box.overlaps(other)


def test_made_examples_are_the_same_every_time(tmp_path: Path) -> None:
    first, second = (recordings.make_examples(tmp_path / name, 1.0) for name in ("a", "b"))
    assert [recordings.kind_of(path) for path in first] == ["speech", "music", "sound"]
    assert list(map(recordings.digest, first)) == list(map(recordings.digest, second))
    for path in first:
        samples = recordings.load(path)
        assert len(samples) == recordings.SAMPLE_RATE
        assert 0.01 < np.sqrt(np.mean(samples**2)) < 0.5


def test_every_nth_file_is_taken_of_each_class(tmp_path: Path) -> None:
    for name in ("music_a", "music_b", "music_c", "speech_a", "speech_b"):
        (tmp_path / f"{name}.flac").touch()
    (tmp_path / "notes.txt").touch()
    found = [path.stem for path in recordings.find(tmp_path, every=2)]
    assert found == ["music_a", "music_c", "speech_a"]
