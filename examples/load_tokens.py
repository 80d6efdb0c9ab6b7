"""Load the Parquet files of `aecodec tokenize` with `datasets`, in batches for PyTorch.

    python examples/load_tokens.py TOKENS [--frames 250] [--batch 4]

Prints the shape of each batch: crops of recordings, in the `delay` pattern.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor

from codec.corpus.patterns import to_delay
from codec.corpus.tokens.folder import read_manifest


def crop(row: dict[str, Any], num_frames: int, pad: int) -> Tensor:
    """A random crop of a recording.

    Args:
        row: a row of the Parquet file.
        num_frames: length of the crop; shorter recordings are padded.
        pad: token where there is no code.

    Returns:
        Tokens ``[num_frames + K - 1, K]``.
    """
    frames = np.reshape(row["codes"], (row["num_frames"], row["num_codebooks"]))
    start = np.random.default_rng().integers(max(1, len(frames) - num_frames + 1))
    frames = frames[start : start + num_frames].astype(np.int64)
    frames = np.pad(frames, ((0, num_frames - len(frames)), (0, 0)), constant_values=pad)
    return torch.from_numpy(to_delay(frames.T, pad))


def main() -> None:
    """Print what a training loop would receive."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tokens", type=Path)
    parser.add_argument("--frames", type=int, default=250, help="frames of a crop")
    parser.add_argument("--batch", type=int, default=4, help="crops of a batch")
    arguments = parser.parse_args()

    pad = read_manifest(arguments.tokens)["codebook_size"]  # the first number that is no code
    files = sorted(map(str, arguments.tokens.glob("*.parquet")))
    data = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
    loader = torch.utils.data.DataLoader(
        data,
        batch_size=arguments.batch,
        collate_fn=lambda rows: torch.stack([crop(row, arguments.frames, pad) for row in rows]),
    )
    for batch in loader:
        print(list(batch.shape))


if __name__ == "__main__":
    main()
