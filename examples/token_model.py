"""Train a small language model on audio tokens, and let it continue a recording.

    python examples/token_model.py [SOURCE] [--out continued.wav] [--minutes 2] [--codebooks 3]

SOURCE is a folder of audio, a WebDataset shard or a manifest; without one, the bundled recording,
which the model then learns by heart. The tokens are in the `delay` pattern: in every step the model
predicts one code of each codebook, knowing the earlier codebooks of the same frame.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor, nn

from codec.corpus import read_tokens
from codec.corpus.patterns import from_delay, to_delay
from codec.corpus.tokenize import Tokenizer, tokenize
from codec.corpus.tokens.format import Tokens
from codec.engines.base import decode
from codec.model_folder import DEFAULT_MODEL
from codec.registry import load_model

WIDTH = 384
CROP_STEPS = 150
BATCH = 8


class TokenModel(nn.Module):
    """A recurrent language model of several streams of tokens.

    Args:
        num_codebooks: number of streams K.
        codebook_size: number of codes; one more token stands for none.
    """

    def __init__(self, num_codebooks: int, codebook_size: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(
            nn.Embedding(codebook_size + 1, WIDTH) for _ in range(num_codebooks)
        )
        self.memory = nn.GRU(WIDTH, WIDTH, num_layers=2, batch_first=True)
        self.heads = nn.ModuleList(
            nn.Linear(WIDTH, codebook_size + 1) for _ in range(num_codebooks)
        )

    def forward(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tokens ``[B, S, K]`` -> scores of the next ones ``[B, S, K, V]``, and the state."""
        x = sum(embed(tokens[..., k]) for k, embed in enumerate(self.embeddings))
        x, state = self.memory(x, state)
        return torch.stack([head(x) for head in self.heads], dim=2), state


def train(
    model: TokenModel, recordings: list[Tensor], seconds: float, most_steps: int | None = None
) -> float:
    """Train on random crops for a while.

    Args:
        model: changed in place.
        recordings: tokens ``[S, K]`` of each.
        seconds: how long.
        most_steps: number of steps after which to end earlier.

    Returns:
        The loss of the last step, in nats per code.
    """
    rng = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    end, last = time.monotonic() + seconds, float("nan")
    weights = np.array([len(tokens) for tokens in recordings], float)
    for _ in itertools.count() if most_steps is None else range(most_steps):
        if time.monotonic() > end:
            break
        crops = []
        for number in rng.choice(len(recordings), BATCH, p=weights / weights.sum()):
            tokens = recordings[number]
            start = rng.integers(max(1, len(tokens) - CROP_STEPS))
            crops.append(tokens[start : start + CROP_STEPS + 1])
        length = min(map(len, crops))
        batch = torch.stack([tokens[:length] for tokens in crops])
        scores, _ = model(batch[:, :-1])
        loss = nn.functional.cross_entropy(scores.flatten(0, 2), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        last = loss.item()
    return last


@torch.inference_mode()
def continue_tokens(model: TokenModel, prompt: Tensor, num_steps: int, pad: int) -> Tensor:
    """Sample what follows a prompt.

    Args:
        model: the trained model.
        prompt: tokens ``[S, K]``.
        num_steps: number of steps to add.
        pad: token that stands for none, which is not sampled.

    Returns:
        Tokens ``[S + num_steps, K]``, the prompt included.
    """
    torch.manual_seed(0)
    scores, state = model(prompt[None])
    tokens = [prompt]
    for _ in range(num_steps):
        scores = scores[0, -1] / 0.9
        scores[:, pad] = -torch.inf
        tokens.append(torch.multinomial(scores.softmax(-1), 1).mT)
        scores, state = model(tokens[-1][None], state)
    return torch.cat(tokens)


def main() -> None:
    """Tokenize, train, continue."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", nargs="?", default=Path(__file__).parent / "speech.flac")
    parser.add_argument("--out", type=Path, default=Path("continued.wav"))
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--steps", type=int, help="end training after so many steps")
    parser.add_argument("--codebooks", type=int, default=3)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    arguments = parser.parse_args()

    codec = load_model(arguments.model)
    with tempfile.TemporaryDirectory() as folder:
        tokenize([arguments.source], folder, Tokenizer(codec, codebooks=arguments.codebooks))
        rows: list[Tokens] = list(read_tokens(folder))
    kind = rows[0].kind
    pad = size = max(each.size for each in kind.codebooks)
    recordings = [torch.from_numpy(to_delay(row.codes[0], pad)) for row in rows]

    model = TokenModel(kind.num_codes(), size)
    loss = train(model, recordings, 60 * arguments.minutes, arguments.steps)
    print(f"loss: {loss:.2f} nats per code, {np.log(size):.2f} for chance")

    # The first half of the first recording, and as much again.
    half = len(rows[0].frames) // 2
    tokens = continue_tokens(model, recordings[0][:half], half + kind.num_codes() - 1, pad)
    # What the pattern pads at the beginning is cut off again with it.
    codes = from_delay(tokens.numpy()).clip(0, pad - 1)[None]
    audio = decode(codec.engine, codes, codes.shape[2] * kind.hop_length)
    soundfile.write(arguments.out, audio.T.clip(-1, 1), kind.sample_rate)
    print(f"{arguments.out}: {audio.shape[1] / kind.sample_rate:.1f} seconds")


if __name__ == "__main__":
    main()
