"""The comparison, from its command line to its pages, and the pages in a real browser."""

from __future__ import annotations

import importlib
import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from benchmarks import rate_quality
from benchmarks.comparison import coding, listening_page
from benchmarks.comparison.coding import plan, syntax_without_docstrings
from benchmarks.comparison.entries import Entry, model_entries, spread
from benchmarks.comparison.section import difference_table
from benchmarks.comparison.summary import paired_differences, summarise
from benchmarks.rate_quality import main
from benchmarks.shared.metrics import METRICS
from benchmarks.shared.recordings import EXAMPLE
from benchmarks.shared.report import origin
from codec.evaluation.evaluate import ALL_CLASSES, evaluate
from codec.network.weights import load_codec, save_codec
from tests.browser import Browser, find_browser
from tests.conftest import LAPPED, REPOSITORY, make_codec, sound

# By its name: mypy takes the folder of pictures for the module.
results = importlib.import_module("benchmarks.results")

CLASSES = ("speech", "music", "sound")


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


SECONDS = 2
"""PESQ of a single second does not rise with the bitrate."""
QUICK = ["--quick", "--seconds", str(SECONDS), "--jobs", "1", "--peers", "opus,mp3,codec2"]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("quick")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        # Codec 2 is absent and reported as absent, whether its programs are installed or not.
        patch.setenv("PATH", str(out))
        main([*QUICK, "--out", str(out)])
    figures = json.loads((out / "rate_quality.json").read_text("utf-8"))
    return Run(out, printed.getvalue(), figures)


def test_quick_runs_on_a_fresh_clone(quick: Run) -> None:
    figures = quick.figures
    assert [row["class"] for row in figures["files"]] == list(CLASSES)
    assert {line["codec"] for line in figures["summary"]} == {
        "aecodec speech24k",
        "aecodec speech24k plain",
        "opus",
        "mp3",
    }
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
    for sound_class, figures in quick.figures["originals"].items():
        assert ("dnsmos" in figures) == ("plcmos" in figures) == (sound_class == "speech")
        assert f" {figures['bandwidth']['mean']:.1f} |" in text
    assert text.count("| original | - | - |") == len(CLASSES)


def test_the_pictures_can_be_read(quick: Run) -> None:
    assert quick.figures["plots"] == [
        "rate_quality.png",
        *(f"rate_quality_{k}.png" for k in CLASSES),
    ]
    for name in quick.figures["plots"]:
        with Image.open(quick.out / name) as picture:
            assert min(picture.size) > 300
        assert "<svg" in (quick.out / name).with_suffix(".svg").read_text("utf-8")


def test_a_second_run_measures_nothing_again(
    quick: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(coding, "code_and_measure", None)
    monkeypatch.setattr(coding, "make_clips", lambda *_: [])
    monkeypatch.setattr(rate_quality, "draw_plots", lambda *_: [])
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
    assert page.count("<audio") == page.count("<img") == sum(3 + 3 + 3 + 3 + 1 for _ in CLASSES)
    assert not re.search(r'(src|href)="(?!data:)', page)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("no chromium or chrome on this machine")
    with Browser(program, tmp_path / "profile") as browser:
        yield browser


def test_the_browser_reports_errors_of_a_page(browser: Browser, tmp_path: Path) -> None:
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
    assert len(players) == 39
    assert all(player["ready"] >= 1 and not player["error"] for player in players), players
    assert [player["seconds"] for player in players] == pytest.approx([SECONDS] * 39, abs=0.05)
    pictures = browser.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth])")
    assert pictures == [[True, listening_page.WIDTH]] * 39
    # Starting a second version stops the first, and continues at its position.
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
  first.currentTime = 0.5;
  await first.play();
  await second.play();
  return [first.paused, second.paused, second.currentTime >= 0.5];
})()"""


def test_the_results_page_has_every_benchmark_that_was_run(quick: Run, tmp_path: Path) -> None:
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


def test_figures_of_several_sets_of_recordings_have_their_titles(
    quick: Run, tmp_path: Path
) -> None:
    page = tmp_path / "RESULTS.md"
    for name in ("unseen", "known"):
        (tmp_path / name).mkdir()
        figures = quick.figures | {"title": f"{name} sources", "plots": quick.figures["plots"][:1]}
        (tmp_path / name / "rate_quality.json").write_text(json.dumps(figures))
        plot = figures["plots"][0]
        (tmp_path / name / plot).write_bytes((quick.out / plot).read_bytes())
    pictures = results.make_page([tmp_path / "unseen", tmp_path / "known"], page)
    text = page.read_text("utf-8")
    first, second = (text.index(f"quality: {name} sources") for name in ("unseen", "known"))
    assert first < second and len(set(pictures)) == 2
    assert all(picture.is_file() and picture.name in text for picture in pictures)


def test_the_results_page_needs_figures(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="run the benchmarks first"):
        results.main([str(tmp_path)])


def test_published_figures_contain_no_absolute_paths(quick: Run) -> None:
    assert str(quick.out.parent) not in (quick.out / "rate_quality.json").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "nowhere"], "is not a folder"),
        (["--data", str(REPOSITORY / "docs")], "no audio in"),
        (["--quick", "--model", "nothing"], "no model 'nothing'"),
        (["--quick", "--bitrates", "100"], "starts at 0.5 kbit/s"),
        (["--quick", "--peers", "evs"], "no codec 'evs'"),
    ],
)
def test_wrong_use_is_reported_in_one_line(words: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=said):
        main([*words, "--out", str(tmp_path)])


def test_two_models_of_one_name_get_different_labels(tmp_path: Path) -> None:
    for seed in (0, 1):
        make_codec(LAPPED, tmp_path / str(seed), seed)
    folders = [str(tmp_path / name) for name in "01"]
    entries = model_entries(folders, [2000], max_bitrates=3)
    labels = {entry.label for entry in entries}
    assert len(labels) == 2
    assert len(origin(folders)["models"]) == 2
    assert all(label.startswith("aecodec test ") for label in labels)
    assert {entry.bitrates for entry in entries} == {(2000,)}


def test_a_model_with_another_decoder_is_measured_again(tmp_path: Path) -> None:
    """It reads the same streams, so it has the same fingerprint."""
    ours = Entry("ours", "aecodec", str(tmp_path), (2000,))
    codec = make_codec(LAPPED, tmp_path)
    fingerprint = codec.fingerprint
    before = plan([EXAMPLE], [ours], 1.0, False)
    with torch.no_grad():
        next(codec.decoder.parameters()).mul_(0.5)
    save_codec(codec, tmp_path, name="test")
    assert load_codec(tmp_path).fingerprint == fingerprint
    assert plan([EXAMPLE], [ours], 1.0, False)[0].cache_key != before[0].cache_key


def test_bitrates_are_spread_on_a_logarithmic_scale() -> None:
    assert spread((1, 2, 3), 6) == (1, 2, 3)
    assert spread(range(1, 101), 3) == (1, 10, 100)


def test_a_changed_docstring_is_no_reason_to_measure_again(tmp_path: Path) -> None:
    versions = ['"""One."""\nx = 1  # why\n', '"""Another."""\nx = 1\n', "x = 2\n"]
    found = []
    for version in versions:
        (tmp_path / "module.py").write_text(version)
        found.append(syntax_without_docstrings(tmp_path / "module.py"))
    assert found[0] == found[1] != found[2]


def rows_of(num_files: int, difference: float, spread_of_files: float) -> list[dict[str, Any]]:
    """Speech files for which ours is better by ``difference`` in PESQ, on average."""
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
    """Differences are taken per file: the spread between files does not hide them."""
    found = paired_differences(rows_of(num_files, difference, 0.3), seed=0)
    assert [line["peer"] for line in found] == ["opus"]
    cells = difference_table(found).splitlines()[-1].split(" | ")
    assert "PESQ-WB" in cells[column - 1]
    assert sum("PESQ-WB" in cell for cell in cells) == 1


def test_means_are_over_the_files_that_have_a_figure() -> None:
    rows = rows_of(5, 0.0, 0.1)
    del rows[0]["codecs"]["opus"]["6000"]["pesq_wb"]
    (line,) = (line for line in summarise(rows, seed=0) if line["codec"] == "opus")
    assert (line["files"], line["pesq_wb"]["files"], line["mel"]["files"]) == (5, 4, 5)
    assert line["file_bitrate"] is None


def write_recordings(folder: Path) -> None:
    """Recordings in the folder, in subfolders and in a shard."""
    for name in ("birds/1.wav", "birds/speech_2.wav", "owl_3.wav", "_4.wav", "5.wav"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound(12_000)[0], 24_000)
    with tarfile.open(folder / "shard-0.tar", "w") as shard:
        shard.add(folder / "5.wav", "owl_6.wav")
        shard.add(folder / "5.wav", "rain/7.wav")


def test_recordings_are_grouped_as_by_aecodec_evaluate(model_folder: Path, tmp_path: Path) -> None:
    """In folders with subfolders, shards and names without an underscore."""
    data, out = tmp_path / "mixed", tmp_path / "out"
    write_recordings(data)
    words = ["--peers", "", "--no-visqol", "--jobs", "1", "--bitrates", "1k", "--seconds", "0.5"]
    main(["--data", str(data), "--model", str(model_folder), "--out", str(out), *words])
    figures = json.loads((out / "rate_quality.json").read_text("utf-8"))
    rows = evaluate(load_codec(model_folder), data, [1], seconds=0.5).rows
    expected = {row.sound_class: row.files for row in rows if row.sound_class != ALL_CLASSES}
    assert expected == {"birds": 2, "mixed": 2, "owl": 2, "rain": 1}
    assert Counter(row["class"] for row in figures["files"]) == expected
    assert {line["class"]: line["files"] for line in figures["summary"]} == expected
