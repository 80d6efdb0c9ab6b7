from __future__ import annotations

import pytest
import torch

from codec.errors import ConfigError
from codec.model import Codec
from codec.quantizer import ResidualVectorQuantizer


def make(seed: int = 0) -> tuple[ResidualVectorQuantizer, torch.Tensor]:
    """A quantizer started from correlated latents, as real ones are, and other such latents."""
    torch.manual_seed(seed)
    mixing = torch.randn(12, 12) * torch.linspace(2, 0.1, 12)[:, None]
    quantizer = ResidualVectorQuantizer(12, num_codebooks=4, codebook_size=32, codebook_dim=6)
    quantizer.initialize(torch.randn(2000, 12) @ mixing)
    return quantizer, torch.randn(5, 40, 12) @ mixing


def test_a_code_is_the_nearest_entry_in_the_latent_space() -> None:
    torch.manual_seed(0)
    quantizer = ResidualVectorQuantizer(7, num_codebooks=1, codebook_size=64, codebook_dim=3)
    latent = torch.randn(4, 50, 7)
    entries = quantizer.stages[0](torch.arange(64)[None])
    expected = torch.cdist(latent, entries.expand(4, -1, -1)).argmin(-1)
    assert torch.equal(quantizer.encode(latent)[:, 0], expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("assign", [True, False])
def test_loaded_weights_are_seen_at_once(training: bool, assign: bool) -> None:
    quantizer, latent = make()
    quantizer.train(training)
    before = quantizer.decode(quantizer.encode(latent))
    state = {name: tensor.flip(0).clone() for name, tensor in quantizer.state_dict().items()}
    quantizer.load_state_dict(state, assign=assign)
    fresh = ResidualVectorQuantizer(12, num_codebooks=4, codebook_size=32, codebook_dim=6)
    fresh.load_state_dict(state)
    after = quantizer.decode(quantizer.encode(latent))
    assert torch.equal(after, fresh.decode(fresh.encode(latent)))
    assert not torch.equal(after, before)


def test_a_change_of_type_is_seen_at_once() -> None:
    quantizer, latent = make()
    codes = quantizer.eval().encode(latent)
    decoded = quantizer.double().decode(codes)
    assert decoded.dtype == torch.float64
    torch.testing.assert_close(decoded.float(), quantizer.float().decode(codes))


def test_training_always_searches_the_present_codebooks() -> None:
    """The optimizer changes weights behind the back of any cache."""
    quantizer, latent = make()
    optimizer = torch.optim.AdamW(quantizer.parameters(), 1e-2, fused=True)
    for _ in range(3):
        quantized = quantizer(latent)
        fresh = ResidualVectorQuantizer(12, num_codebooks=4, codebook_size=32, codebook_dim=6)
        fresh.load_state_dict(quantizer.state_dict())
        assert torch.equal(quantized.codes, fresh.encode(latent))
        optimizer.zero_grad()
        quantized.losses["codebook"].backward()
        optimizer.step()


def test_more_codebooks_come_closer() -> None:
    quantizer, latent = make()
    errors = []
    for count in range(1, 5):
        decoded = quantizer.decode(quantizer.encode(latent, count))
        errors.append((latent - decoded).square().mean().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.35 * errors[0] < 0.35 * float(latent.square().mean())


def test_a_start_from_data_uses_nearly_every_entry() -> None:
    quantizer, _ = make()
    torch.manual_seed(0)
    mixing = torch.randn(12, 12) * torch.linspace(2, 0.1, 12)[:, None]
    codes = quantizer.encode((torch.randn(3000, 12) @ mixing)[None])
    for book in codes.unbind(1):
        assert len(book.unique()) >= 0.9 * 32


def test_training_and_coding_agree() -> None:
    quantizer, latent = make()
    quantized = quantizer(latent)
    assert torch.equal(quantized.codes, quantizer.encode(latent))
    torch.testing.assert_close(quantized.latent, quantizer.decode(quantized.codes))


def test_dropout_keeps_the_first_codebooks_of_each_item() -> None:
    quantizer, latent = make()
    kept = torch.tensor([1, 2, 3, 4, 2])
    quantized = quantizer(latent, kept)
    for item, count in enumerate(kept.tolist()):
        expected = quantizer.decode(quantizer.encode(latent[item : item + 1], count))
        torch.testing.assert_close(quantized.latent[item : item + 1], expected)


def test_gradients_go_where_they_should() -> None:
    quantizer, latent = make()
    latent.requires_grad_()
    quantized = quantizer(latent)
    weights = torch.randn_like(latent)
    (straight,) = torch.autograd.grad((quantized.latent * weights).sum(), latent, retain_graph=True)
    assert torch.equal(straight, weights)  # straight through
    books = list(quantizer.parameters())
    for gradient in torch.autograd.grad(quantized.losses["codebook"], books, retain_graph=True):
        assert gradient.isfinite().all() and gradient.any()
    assert not any(
        g is not None and g.any()
        for g in torch.autograd.grad(
            quantized.losses["codebook"], [latent], retain_graph=True, allow_unused=True
        )
    )
    (pull,) = torch.autograd.grad(quantized.losses["commitment"], latent)
    torch.testing.assert_close(pull, 2 * (latent - quantized.latent).detach() / latent.numel())


def test_the_codebook_loss_teaches() -> None:
    quantizer, latent = make()
    shifted = latent * 1.3 + 0.5
    optimizer = torch.optim.Adam(quantizer.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        loss = quantizer(shifted).losses["codebook"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_dead_codes_come_back_to_life() -> None:
    quantizer, latent = make()
    stage = quantizer.stages[0]
    with torch.no_grad():
        stage.codebook[:16] = stage.codebook[0]  # 15 duplicates never win
    used = torch.bincount(quantizer.encode(latent)[:, 0].flatten(), minlength=32)
    before = int((used > 0).sum())
    torch.manual_seed(0)
    dead = torch.zeros(4, 32, dtype=torch.bool)
    dead[0] = used == 0
    alive = stage.codebook[~dead[0]].clone()
    quantizer.restart(latent, dead)
    after = len(quantizer.encode(latent)[:, 0].unique())
    assert after > before + 8
    assert torch.equal(stage.codebook[~dead[0]], alive)


@pytest.mark.parametrize("count", [0, -1, 5])
def test_an_impossible_number_of_codebooks_is_named(count: int) -> None:
    quantizer, latent = make()
    with pytest.raises(ConfigError, match=f"{count} codebooks asked for: this model has 1 to 4"):
        quantizer.encode(latent, count)
    with pytest.raises(ConfigError, match="codes of 5 codebooks"):
        quantizer.decode(torch.zeros(1, 5, 3, dtype=torch.int64))


def test_latents_are_bounded_in_scale(codec: Codec) -> None:
    """However loud the input: the commitment term cannot run away."""
    for level in (0.0, 1.0, 1e4):
        audio = level * torch.randn(2, 1, 10 * codec.config.hop_length)
        rms = codec.encode_latent(audio).square().mean(-1).sqrt()
        assert rms.isfinite().all() and rms.max() <= 1 + 1e-6
