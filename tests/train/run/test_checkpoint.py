"""Checkpoints whose facts are of other types are refused in one line."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from codec.errors import ModelError
from train.run.checkpoint import _checked, load_checkpoint

FACTS: dict[str, Any] = {
    "model": {},
    "step": 4,
    "seconds": 1.5,
    "monitor": {"best": 0.5, "best_step": 2, "stale": 0, "halvings": 0},
    "guard": {"typical_loss": None, "exploding_steps": 0},
    "means": {"loss": [3.0, 2]},
    "balancer": {"mel.norm": 0.5},
    "pretrained_codebooks": False,
    "pretrained_discriminators": True,
}
WRONG = ("x", None, -1, [1, 2, 3], {"a": 1}, True)


def test_facts_of_a_checkpoint_are_taken_as_they_are() -> None:
    assert _checked(copy.deepcopy(FACTS)) == FACTS


@pytest.mark.parametrize("name", [name for name in FACTS if name != "model"])
def test_facts_of_another_type_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "step_4.safetensors"
    changes: list[Any] = [value for value in WRONG if not isinstance(FACTS[name], type(value))]
    if isinstance(FACTS[name], dict):
        key = next(iter(FACTS[name]))
        changes += [FACTS[name] | {key: value} for value in ("x", [], {"a": 1}, [1.0, "x"])]
    for value in changes:
        save_file({"a": torch.zeros(1)}, path, {"facts": json.dumps(FACTS | {name: value})})
        with pytest.raises(ModelError, match="does not fit this recipe, or is damaged") as caught:
            load_checkpoint(None, path)  # type: ignore[arg-type]
        assert len(str(caught.value).splitlines()) == 1
        assert "NoneType" not in str(caught.value), value  # the state, which comes later


@pytest.mark.parametrize("facts", ["", "[]", "5", '"x"', "{}", "null", 20_000 * "["])
def test_facts_that_are_none_are_refused(facts: str, tmp_path: Path) -> None:
    path = tmp_path / "step_4.safetensors"
    save_file({"a": torch.zeros(1)}, path, {"facts": facts})
    with pytest.raises(ModelError, match="or is damaged"):
        load_checkpoint(None, path)  # type: ignore[arg-type]
