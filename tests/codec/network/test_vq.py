from __future__ import annotations

import pytest
import torch

from codec.network.vq import ResidualVectorQuantizer


def make(seed: int = 0) -> tuple[ResidualVectorQuantizer, torch.Tensor]:
    """A quantizer initialised from correlated latents, as real ones are, and other such latents."""
    torch.manual_seed(seed)
    mixing = torch.randn(12, 12) * torch.linspace(2, 0.1, 12)[:, None]
    quantizer = ResidualVectorQuantizer(12, num_codebooks=4, codebook_size=32, codebook_dim=6)
    quantizer.initialize(torch.randn(2000, 12) @ mixing)
    return quantizer, torch.randn(5, 40, 12) @ mixing


def test_a_code_is_the_nearest_entry_in_the_latent_space() -> None:
    torch.manual_seed(0)
    quantizer = ResidualVectorQuantizer(7, num_codebooks=1, codebook_size=64, codebook_dim=3)
    latent = torch.randn(4, 50, 7)
    entries = quantizer.decode(torch.arange(64)[None, None])
    expected = torch.cdist(latent, entries.expand(4, -1, -1)).argmin(-1)
    assert torch.equal(quantizer.encode(latent)[:, 0], expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("assign", [True, False])
def test_loaded_weights_take_effect_at_once(training: bool, assign: bool) -> None:
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


def test_a_change_of_type_takes_effect_at_once() -> None:
    quantizer, latent = make()
    codes = quantizer.eval().encode(latent)
    decoded = quantizer.double().decode(codes)
    assert decoded.dtype == torch.float64
    torch.testing.assert_close(decoded.float(), quantizer.float().decode(codes))


def test_training_always_searches_the_current_codebooks() -> None:
    """The optimizer changes weights in place, which no cache would notice."""
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


def test_initialization_from_data_uses_nearly_every_entry() -> None:
    quantizer, _ = make()
    torch.manual_seed(0)
    mixing = torch.randn(12, 12) * torch.linspace(2, 0.1, 12)[:, None]
    codes = quantizer.encode((torch.randn(3000, 12) @ mixing)[None])
    for book in codes.unbind(1):
        assert len(book.unique()) >= 0.9 * 32


def test_restarted_codes_are_used_again() -> None:
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
