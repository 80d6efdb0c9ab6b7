"""Options and commands for files of variable bitrate, on the packaged model."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from codec.format.reading import summarize_file
from tests.codec.cli.test_cli import fails, run
from tests.conftest import RECORDING, encode_in_packets

RATE = 24_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of speech, and a file of 3 kbit/s of them, with its audio."""
    folder = tmp_path_factory.mktemp("coded")
    audio, rate = soundfile.read(RECORDING, frames=3 * RATE)
    assert rate == RATE
    soundfile.write(folder / "a.wav", audio, rate)
    assert run("encode", folder / "a.wav", folder / "a.codes", "-b", "3k").exit_code == 0
    assert run("decode", folder / "a.codes", folder / "whole.wav").exit_code == 0
    return folder


def encoded(folder: Path, target: Path, *options: str) -> int:
    """Size of the file that the options give."""
    result = run("encode", folder / "a.wav", target, *options)
    assert result.exit_code == 0, result.output
    assert str(target) in result.stderr and "kbit/s" in result.stderr
    return target.stat().st_size


def samples(path: Path) -> np.ndarray:
    return np.asarray(soundfile.read(path, dtype="int16")[0], np.int64)


def test_quality_chooses_the_bitrate(folder: Path, tmp_path: Path) -> None:
    sizes = [encoded(folder, tmp_path / f"{q}.codes", "-q", q) for q in ("0", "2.5", "5", "10")]
    assert all(small < 0.8 * large for small, large in pairwise(sizes))
    header = summarize_file(tmp_path / "5.codes").header
    assert header.variable and header.num_codebooks == 20


@pytest.mark.parametrize(("size", "num_bytes"), [("1.2kB", 1_200), ("1500", 1_500)])
def test_a_file_size_is_met_from_below(
    folder: Path, tmp_path: Path, size: str, num_bytes: int
) -> None:
    found = encoded(folder, tmp_path / "b.codes", "--file-size", size)
    assert 0.97 * num_bytes <= found <= num_bytes


def test_a_size_that_is_too_large_gives_the_highest_quality(folder: Path, tmp_path: Path) -> None:
    highest = encoded(folder, tmp_path / "q.codes", "--quality", "10")
    assert encoded(folder, tmp_path / "b.codes", "--file-size", "1MB") == highest


def test_constant_and_plain_files_have_the_same_sound(folder: Path, tmp_path: Path) -> None:
    sizes = [
        encoded(folder, tmp_path / f"{name}.codes", "-k", "6", *options)
        for name, *options in (("constant",), ("plain", "--plain"))
    ]
    assert sizes[0] < 0.9 * sizes[1]
    for name in ("constant", "plain"):
        header = summarize_file(tmp_path / f"{name}.codes").header
        assert (header.variable, header.num_codebooks) == (False, 6)
        decoded = run("decode", tmp_path / f"{name}.codes", tmp_path / f"{name}.wav")
        assert decoded.exit_code == 0
    assert np.array_equal(samples(tmp_path / "constant.wav"), samples(tmp_path / "plain.wav"))


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [("0:01", "2.5", 24_000, 60_000), ("0:0:0.7001", None, 16_802, None), (None, "1", 0, 24_000)],
)
def test_a_part_is_decoded(
    folder: Path, tmp_path: Path, start: str | None, end: str | None, first: int, last: int | None
) -> None:
    options = [*(("--from", start) if start else ()), *(("--to", end) if end else ())]
    assert run("decode", folder / "a.codes", tmp_path / "b.wav", *options).exit_code == 0
    expected = samples(folder / "whole.wav")[first:last]
    found = samples(tmp_path / "b.wav")
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1


def test_packets_are_listed_with_all_their_bytes(folder: Path, tmp_path: Path) -> None:
    codes = folder / "a.codes"
    result = run("info", codes, "--packets", "--json")
    assert result.exit_code == 0
    facts, *packets = map(json.loads, result.stdout.splitlines())
    assert [(each["seconds"], each["num_frames"]) for each in packets] == [(0, 100), (2, 51)]
    header = summarize_file(codes).header
    assert header.size + sum(each["num_bytes"] for each in packets) == facts["bytes"]
    assert all(each["coding"] == "coded" and 1 <= each["codebooks"] <= 20 for each in packets)
    shown = run("info", codes, "--packets").stdout
    rows = shown[shown.index("seconds   frames") :].splitlines()
    assert [row.split()[:3] for row in rows[1:]] == [
        [f"{each['seconds']:.2f}", str(each["num_frames"]), str(each["num_bytes"])]
        for each in packets
    ]
    # A packet of four is missing.
    encode_in_packets(folder / "a.wav", tmp_path / "b.codes", 40)
    data = bytearray((tmp_path / "b.codes").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "b.codes").write_bytes(data)
    result = run("info", tmp_path / "b.codes", "--packets", "--json")
    assert result.exit_code == 1
    found = [json.loads(row) for row in result.stdout.splitlines()[1:]]
    assert [each["coding"] for each in found].count("missing") == 1
    assert [each["seconds"] for each in found] == pytest.approx([0, 0.8, 1.6, 2.4])


def test_a_cut_and_its_rest_are_joined_to_the_whole(folder: Path, tmp_path: Path) -> None:
    first, second, joined = (tmp_path / f"{name}.codes" for name in "abc")
    assert run("cut", folder / "a.codes", first, "--to", "1.2345").exit_code == 0
    assert run("cut", folder / "a.codes", second, "--from", "0:01.2345").exit_code == 0
    assert run("concat", first, second, joined).exit_code == 0
    assert run("decode", joined, tmp_path / "b.wav").exit_code == 0
    found, expected = samples(tmp_path / "b.wav"), samples(folder / "whole.wav")
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1


def test_peeling_and_decoding_fewer_codebooks_are_the_same(folder: Path, tmp_path: Path) -> None:
    small, low, direct = tmp_path / "b.codes", tmp_path / "low.wav", tmp_path / "direct.wav"
    assert run("peel", folder / "a.codes", small, "-k", "2").exit_code == 0
    assert small.stat().st_size < 0.7 * (folder / "a.codes").stat().st_size
    assert run("decode", small, low).exit_code == 0
    assert run("decode", folder / "a.codes", direct, "-k", "2").exit_code == 0
    assert np.array_equal(samples(low), samples(direct))


def test_verify_names_what_is_damaged(folder: Path, tmp_path: Path) -> None:
    good, bad = folder / "a.codes", tmp_path / "bad.codes"
    result = run("verify", good)
    assert (result.exit_code, result.output) == (0, f"{good}: undamaged\n")
    data = bytearray(good.read_bytes())
    data[-20] ^= 1
    bad.write_bytes(data)
    missing = tmp_path / "none.codes"
    result = run("verify", bad, good, missing)
    assert result.exit_code == 1
    of_bad, of_good, of_missing = result.output.splitlines()
    assert of_bad.startswith(f"{bad}: ") and "damaged or missing" in of_bad
    assert of_good == f"{good}: undamaged"
    assert of_missing.startswith(f"{missing}: ") and "check the path" in of_missing


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["-q", "11"], 1, "quality is 11.0: it must be a number from 0 to 10"),
        (["-q", "-0.1"], 1, "quality is -0.1: it must be a number from 0 to 10"),
        (["-q", "nan"], 1, "quality is nan: it must be a number from 0 to 10"),
        (["--file-size", "0"], 2, "give bytes as 5000, 250kB or 1MB"),
        (["--file-size", "-5"], 2, "give bytes as 5000, 250kB or 1MB"),
        (["--file-size", "1GB"], 2, "give bytes as 5000, 250kB or 1MB"),
        (["--file-size", "100"], 1, "give at least as many, or a shorter file"),
        (["-q", "3", "--file-size", "1MB"], 2, "--quality and --file-size are given: give one"),
        (["-q", "3", "-b", "3k"], 2, "--bitrate and --quality are given: give one of them"),
        (["-k", "3", "-b", "3k"], 2, "--bitrate and --codebooks are given: give one of them"),
        (["-b", "3k", "--plain"], 2, "--plain has no --bitrate: give --codebooks with it"),
        (["--file-size", "1MB", "--plain"], 2, "--plain has no --file-size: give --codebooks"),
        (["--cbr"], 2, "--cbr is no option any more: give the number of codes"),
        (["--target-size", "1MB"], 2, "--target-size is no option any more: give --file-size"),
        (["--engine", "core"], 2, "--engine is no option any more: give --backend"),
        (["--frames-per-packet", "7"], 2, "--frames-per-packet is no option any more"),
    ],
)
def test_what_cannot_be_encoded_is_said_in_one_line(
    folder: Path, tmp_path: Path, options: list[str], status: int, message: str
) -> None:
    fails(run("encode", folder / "a.wav", tmp_path / "b.codes", *options), status, message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["decode", "cut"])
@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--from", "1:x"], 2, "minutes and seconds as 1:05.5"),
        (["--to", "-1"], 2, "minutes and seconds as 1:05.5"),
        (["--from", "nan"], 2, "minutes and seconds as 1:05.5"),
        (["--from", "0:0:0:1"], 2, "minutes and seconds as 1:05.5"),
        (["--from", "3"], 1, "ends before 3 seconds: give an earlier start"),
        (["--from", "2", "--to", "1"], 1, "nothing lies between 2 and 1 seconds"),
        (["--to", "0"], 1, "or a later end"),
    ],
)
def test_what_lies_outside_of_a_file_is_said_in_one_line(
    folder: Path, tmp_path: Path, command: str, options: list[str], status: int, message: str
) -> None:
    target = tmp_path / ("b.wav" if command == "decode" else "b.codes")
    fails(run(command, folder / "a.codes", target, *options), status, message)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_edited_is_said_in_one_line(folder: Path, tmp_path: Path) -> None:
    codes, wav, target = folder / "a.codes", folder / "a.wav", tmp_path / "b.codes"
    fails(run("concat", codes), 2, "name one or more inputs, and the output")
    fails(run("concat", codes, wav, target), 1, f"{wav}: not a .codes stream")
    fails(run("concat", codes, tmp_path / "none", target), 1, "check the path")
    fails(run("peel", codes, target), 2, "give the number of codebooks to keep with --codebooks")
    fails(run("peel", codes, target, "-b", "1k"), 2, "give the number of codebooks to keep with")
    fails(run("decode", codes, target, "-b", "1k"), 2, "number of codebooks to decode with --cod")
    fails(run("decode", codes, target, "--engine", "core"), 2, "give --backend")
    fails(run("peel", wav, target, "-k", "2"), 1, "not a .codes stream")
    fails(run("cut", wav, target), 1, "not a .codes stream")
    fails(run("cut", codes, target, "-m", tmp_path), 1, "give a folder with config.json")
    fails(run("info", "-", "--packets"), 2, "not from standard input")
    fails(run("info", wav, "--packets"), 1, f"{wav}: not a .codes stream")
    assert not list(tmp_path.iterdir())
    before = codes.read_bytes()
    for command, *options in (("cut",), ("peel", "-k", "2"), ("concat",)):
        fails(run(command, codes, codes, *options, "-f"), 1, "another name")
        target.write_bytes(b"precious")
        fails(run(command, codes, target, *options), 1, "--force")
        assert target.read_bytes() == b"precious" and codes.read_bytes() == before
