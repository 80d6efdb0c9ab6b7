"""Start a model from the weights of a smaller one.

What the larger model has besides adds nothing at first: further residual units are the identity, a
second synthesis stage passes the audio through, and further codebooks refine the codes before them.
"""

from __future__ import annotations

import torch

from codec.errors import ModelError
from codec.network.bottleneck import ResidualQuantizer
from codec.network.layers import ResidualUnit
from codec.network.model import Codec


@torch.no_grad()
def transfer_weights(source: Codec, target: Codec) -> int:
    """Copy all weights of ``source``; what only ``target`` has keeps its values.

    Args:
        source: the trained model.
        target: a new model, changed in place. It may have more codebooks, more residual units at
            the end of each level, and a second synthesis stage.

    Returns:
        Number of codebooks of ``target`` that are trained.

    Raises:
        ModelError: ``target`` differs in another way.
    """
    names = _names_by_place(target)
    trained, new = source.state_dict(), target.state_dict()
    moved = {names.get(place, ""): trained[name] for place, name in _names_by_place(source).items()}
    count = source.config.num_codebooks
    added = (
        "decoder.fine.",
        "unit ",
        *(f"quantizer.stages.{number}." for number in range(count, target.config.num_codebooks)),
    )
    untrained = [
        place for place, name in names.items() if name not in moved and not place.startswith(added)
    ]
    if (
        untrained
        or any(name not in new or new[name].shape != value.shape for name, value in moved.items())
        or source.config.sample_rate != target.config.sample_rate
        or source.config.strides != target.config.strides
    ):
        raise ModelError(
            "the model has another shape than the recipe's [model]: only num_codebooks may be "
            "larger, levels may end in further dilations, and decoder_fine_stride may add a second "
            "synthesis stage"
        )
    target.load_state_dict(new | moved)
    # Kept by `save_codec` if the codes keep their meaning.
    target.fingerprint, target.fingerprinted = source.fingerprint, source.fingerprinted
    return count if isinstance(target.quantizer, ResidualQuantizer) else 0


def _names_by_place(codec: Codec) -> dict[str, str]:
    """Names of the weights by places that further residual units do not change.

    Layers are numbered by level, and residual units within their level, by number and dilation.
    """
    names = {name: name for name in codec.state_dict()}
    for body, chain in (("encoder.body", codec.encoder.body), ("decoder.body", codec.decoder.body)):
        level = unit = 0
        for number, layer in enumerate(chain.layers):
            if isinstance(layer, ResidualUnit):
                unit += 1
                place = f"unit {unit} of level {level} of {body}, dilation {layer.conv.dilation}"
            else:
                level, unit = level + 1, 0
                place = f"level {level} of {body}"
            prefix = f"{body}.layers.{number}."
            for name in [name for name in names if name.startswith(prefix)]:
                names[f"{place}: {name.removeprefix(prefix)}"] = names.pop(name)
    return names
