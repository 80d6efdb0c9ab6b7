"""The section of the results page."""

from __future__ import annotations

from typing import Any

from benchmarks.contenders.aecodec import Aecodec
from benchmarks.shared.tables import markdown_table

OURS = Aecodec.name


def report(figures: dict[str, Any]) -> str:
    """All figures as Markdown."""
    parts = [
        "### Whole clips",
        *map(_offline_section, figures["offline"]),
        "### Streaming",
        _streaming_section(figures["streaming"]),
        _first_packet_section(figures["first_packet"]),
        "### Engines",
        _engines_section(figures["engines"]),
        "### Many live sessions",
        _sessions_section(figures["sessions"]),
        "### Start-up, one thread",
        _start_up_table(figures["start_up"]),
        "### Peak memory against length, one thread",
        _memory_table(figures["memory"]),
    ]
    return "\n\n".join(parts) + "\n"


def _offline_section(result: dict[str, Any]) -> str:
    rows = []
    for name, figures in result["codecs"].items():
        network = figures["num_parameters"]
        for side in ("encode", "decode"):
            figure = figures[side]
            rows.append(
                (
                    name,
                    f"{figures['bitrate'] / 1000:g}",
                    f"{network / 1e6:.1f} M" if network else "-",
                    side,
                    significant(figure["times_real_time"], 3),
                    significant(figure["ratio_to_ours"], 2),
                    f"{figure['mmac_per_second_of_audio']:.0f}" if network else "-",
                    f"{100 * figure['share_of_matrix_product']:.0f} %" if network else "-",
                )
            )
    header = ("codec", "kbit/s", "parameters", "side", "x real time", "ratio", "MMAC/s", "of peak")
    return (
        f"On {result['threads']} thread(s). Ratio: speed relative to {OURS}. MMAC/s: millions of "
        "multiply-accumulates per second of audio. Of peak: share of the rate of a matrix product, "
        f"{result['matrix_product_gmac_per_second']:.1f} GMAC/s.\n\n{markdown_table(header, rows)}"
    )


def _streaming_section(results: list[dict[str, Any]]) -> str:
    rows = []
    for row in results:
        cells = [f"{row['threads']}", f"{row['push_ms']:g}", f"{row['num_pushes']}"]
        for side in ("encode", "decode"):
            figure = row[side]
            names = ("median_ms", "p99_ms", "worst_ms")
            cells.append(" / ".join(f"{figure[name]:.2f}" for name in names))
            cells.append(f"{figure['times_real_time']:.0f}")
        rows.append(cells)
    header = ["threads", "push, ms", "pushes"]
    for side in ("encode", "decode"):
        header += [f"{side}, ms: median / p99 / worst", "x real time"]
    return f"Each push fills one packet.\n\n{markdown_table(header, rows)}"


def _first_packet_section(results: list[dict[str, Any]]) -> str:
    names = ("load", "first_encode", "later_encode", "first_decode", "later_decode")
    rows = [
        (f"{row['threads']}", *(f"{row[f'{name}_ms']:.1f}" for name in names)) for row in results
    ]
    first, later = "ms in a new process", "ms in later sessions"
    header = ["threads", "loading the model, ms", f"packet, {first}", f"packet, {later}"]
    header += [f"audio, {first}", f"audio, {later}"]
    return (
        f"The algorithmic latency is {results[0]['latency_ms']:g} ms with one-frame packets. The "
        "processing time for the first packet of a session, and for its audio, is added to it:\n\n"
        f"{markdown_table(header, rows)}"
    )


def _engines_section(results: list[dict[str, Any]]) -> str:
    rows = []
    for result in results:
        for row in result["rows"]:
            cells = [f"{result['threads']}", f"{row['frames']}"]
            for side in ("encode", "decode"):
                slow, fast = (row["milliseconds"][f"{side} {name}"] for name in ("torch", "core"))
                cells += [f"{slow:.2f} / {fast:.2f}", f"{slow / fast:.2f}"]
            cells += [f"{100 * row['same_codes']:.2f} %", f"{row['difference_db']:.1f} dB"]
            rows.append(cells)
    header = ["threads", "frames"]
    for side in ("encode", "decode"):
        header += [f"{side}, ms: torch / core", "ratio"]
    header += ["same codes", "difference"]
    return (
        "One step of so many frames with PyTorch and with the core, in turn. "
        "Difference: its level in what both decode from equal codes, relative to PyTorch's.\n\n"
        f"{markdown_table(header, rows)}"
    )


def _sessions_section(results: list[dict[str, Any]]) -> str:
    rows = []
    for row in results:
        cells = [f"{row['threads']}"]
        for side in ("encode", "decode", "both"):
            figure = row[side]
            cells.append(f"{figure['sessions']}")
            cells.append(f"{figure['median_ms']:.1f} / {figure['p999_ms']:.1f}")
        rows.append(cells)
    header = ["threads"]
    for side in ("encode", "decode", "both"):
        header += [side, "ms: median / p99.9"]
    return (
        "Sessions whose states are joined, so that they share every step of one frame: the largest "
        f"number for which 99.9 % of {results[0]['num_steps']} steps take at most "
        f"{results[0]['frame_ms']:g} ms, the duration of a frame.\n\n{markdown_table(header, rows)}"
    )


def _start_up_table(results: list[dict[str, Any]]) -> str:
    rows = [
        (f"`{row['command']}`", f"{row['seconds']:.2f}", f"{row['peak_mib']:.0f}")
        for row in results
    ]
    return markdown_table(("command", "seconds", "peak MiB"), rows)


def _memory_table(results: list[dict[str, Any]]) -> str:
    sides = ("encode", "decode", "info")
    header = ("minutes", *(f"{side} MiB" for side in sides), *(f"{side} s" for side in sides))
    rows = [
        (
            f"{row['minutes']:g}",
            *(f"{row[f'{side}_mib']:.0f}" for side in sides),
            *(f"{row[f'{side}_seconds']:.1f}" for side in sides),
        )
        for row in results
    ]
    return markdown_table(header, rows)


def significant(value: float, digits: int) -> str:
    """A number with this many significant digits, without an exponent.

    Example:
        >>> significant(1234.5, 3), significant(0.0123, 2)
        ('1230', '0.012')
    """
    return f"{float(f'{value:.{digits}g}'):g}"
