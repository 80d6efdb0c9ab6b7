"""Start a model from the weights of a smaller one: more codebooks, a second synthesis stage."""

from __future__ import annotations

import torch

from codec.errors import ModelError
from codec.network.bottleneck import ResidualQuantizer
from codec.network.model import Codec


@torch.no_grad()
def transfer_weights(source: Codec, target: Codec) -> int:
    """Copy all weights that both models have.

    What only ``target`` has, further codebooks or a second synthesis stage, keeps its values.

    Args:
        source: the trained model.
        target: a new model that is at least as large, changed in place.

    Returns:
        Number of codebooks of ``target`` that are trained.

    Raises:
        ModelError: a weight of ``source`` has no place in ``target``, or ``target`` has other
            layers without trained weights.
    """
    trained, new = source.state_dict(), target.state_dict()
    misplaced = [
        name for name, value in trained.items() if name not in new or new[name].shape != value.shape
    ]
    count = source.config.num_codebooks
    added = (
        "decoder.fine.",
        *(f"quantizer.stages.{n}." for n in range(count, target.config.num_codebooks)),
    )
    untrained = [name for name in new if name not in trained and not name.startswith(added)]
    if (
        misplaced
        or untrained
        or source.config.sample_rate != target.config.sample_rate
        or source.config.strides != target.config.strides
    ):
        raise ModelError(
            "the model has another shape than the recipe's [model]: only num_codebooks may be "
            "larger, and decoder_fine_stride may add a second synthesis stage"
        )
    target.load_state_dict(new | trained)
    return count if isinstance(target.quantizer, ResidualQuantizer) else 0
