"""What weights and activations of 8 bits cost: the network in float32 and so rounded, side by side.

    python benchmarks/eight_bits.py --data DIR [--model M] [--codebooks 6 12] [--out OUT]

Every matrix product of encoder and decoder gets weights and inputs rounded to 8 bits, with one
scale for each `BLOCK` values along the sum: a block of the inputs of a frame, and the same block of
each output's weights. What the products have summed, everything between them, the transforms and
the search for codes stay in float32. Recordings of speech in DIR are coded with float32, with a
decoder of 8 bits, and with both sides of 8 bits.

Writes eight_bits.json (all figures of every file) and eight_bits.md to OUT.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# As a script, it must import from the repository, which is not on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.shared import recordings
from benchmarks.shared.metrics import METRICS, mean, pesq_wb
from benchmarks.shared.options import add_speech_options
from benchmarks.shared.processes import run_in_processes
from benchmarks.shared.recordings import SAMPLE_RATE, Recording
from benchmarks.shared.report import origin, write_report
from benchmarks.shared.resampling import resample
from benchmarks.shared.tables import cell, markdown_table
from codec.errors import CodecError
from codec.evaluation.metrics import short_time_intelligibility
from codec.evaluation.naturalness import rate_naturalness
from codec.network.model import Codec
from codec.network.weights import load_codec

BLOCK = 32
"""Values that share a scale."""
LARGEST = 127

MEASURES = ("pesq_wb", "stoi", "dnsmos", "plcmos")
WAYS = ("float32", "decoder of 8 bits", "both of 8 bits")


def rounded(values: Tensor) -> Tensor:
    """Values rounded to 8 bits in blocks along the last dimension, same shape.

    Example:
        >>> rounded(torch.tensor([[1.0, 0.5, 0.001]]))[0, 2].item()
        0.0
    """
    length = values.shape[-1]
    blocks = F.pad(values, (0, -length % BLOCK)).unflatten(-1, (-1, BLOCK))
    scale = blocks.abs().amax(-1, keepdim=True).clamp(min=1e-30) / LARGEST
    whole: Tensor = ((blocks / scale).round() * scale).flatten(-2)
    return whole[..., :length]


@torch.no_grad()
def with_eight_bits(network: nn.Module) -> nn.Module:
    """A copy of an encoder or decoder whose linear layers compute with 8 bits."""
    network = copy.deepcopy(network)
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            layer.weight.copy_(rounded(layer.weight))
            layer.register_forward_pre_hook(lambda _, inputs: (rounded(inputs[0]),))
    return network


@cache
def versions(model: str) -> dict[str, Codec]:
    """The model in each of `WAYS`."""
    exact = load_codec(model)
    decoding, both = copy.deepcopy(exact), copy.deepcopy(exact)
    decoding.decoder = both.decoder = with_eight_bits(exact.decoder)  # type: ignore[assignment]
    both.encoder = with_eight_bits(exact.encoder)  # type: ignore[assignment]
    return dict(zip(WAYS, (exact, decoding, both), strict=True))


def figures_of(
    recording: Recording, model: str, codebooks: Sequence[int], seconds: float
) -> list[dict[str, Any]]:
    """One row for each number of codebooks and each of `WAYS`."""
    found = versions(model)
    rate, hop = found[WAYS[0]].config.sample_rate, found[WAYS[0]].config.hop_length
    audio = resample(recording.load(seconds), SAMPLE_RATE, rate)
    audio = audio[: len(audio) // hop * hop]
    rows, exact_codes = [], None
    for way, codec in found.items():
        with torch.inference_mode():
            codes = codec.encode(torch.from_numpy(audio)[None, None])
            exact_codes = codes if exact_codes is None else exact_codes
            for count in codebooks:
                decoded = codec.decode(codes[:, :count], num_samples=len(audio))[0, 0].numpy()
                row: dict[str, Any] = {"file": recording.name, "codebooks": count, "way": way}
                row["equal_codes"] = float((codes == exact_codes)[:, :count].float().mean())
                row["pesq_wb"] = pesq_wb(decoded, audio, rate)
                row["stoi"] = short_time_intelligibility(decoded, audio, rate)
                rows.append(row | rate_naturalness(decoded, rate))
    return rows


def make_section(rows: Sequence[dict[str, Any]], codebooks: Sequence[int]) -> str:
    """Section of the results page."""
    header = ("codebooks", "network", "equal codes", *(METRICS[name].title for name in MEASURES))
    lines = []
    for count in codebooks:
        for way in WAYS:
            chosen = [row for row in rows if (row["codebooks"], row["way"]) == (count, way)]
            equal = 100 * np.mean([row["equal_codes"] for row in chosen])
            cells = [str(count), way, f"{equal:.1f} %"]
            for name in MEASURES:
                value = mean([row[name] for row in chosen])
                cells.append(cell(value, METRICS[name].decimals + 1))
            lines.append(cells)
    return (
        f"{len({row['file'] for row in rows})} recordings of speech, plain codes; weights and "
        f"inputs of all matrix products in blocks of {BLOCK}.\n\n" + markdown_table(header, lines)
    )


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_speech_options(parser)
    parser.add_argument("--codebooks", type=int, nargs="+", default=[6, 12], help="default: 6 12")
    arguments = parser.parse_args(words)
    try:
        chosen = recordings.speech(arguments.data, arguments.every)
        work = partial(
            figures_of,
            model=arguments.model,
            codebooks=arguments.codebooks,
            seconds=arguments.seconds,
        )
        results = dict(run_in_processes(work, chosen, arguments.jobs))
    except CodecError as error:
        sys.exit(f"error: {error}")
    rows = [row for number in sorted(results) for row in results[number]]
    section = make_section(rows, arguments.codebooks)
    print(section)
    write_report(arguments.out, "eight_bits", origin([arguments.model]) | {"files": rows}, section)


if __name__ == "__main__":
    main()
