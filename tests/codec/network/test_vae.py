"""The VAE: its loss, its samples, and clear errors where codes are needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
import torch
from torch.distributions import Normal, kl_divergence

from codec.bitrate import format_bitrate
from codec.errors import ConfigError
from codec.network.model import Codec
from codec.network.vae import GaussianBottleneck
from codec.network.weights import save_codec
from codec.session.encoder import StreamEncoder
from tests.codec.cli.test_cli import fails, run
from tests.conftest import sound


def make() -> tuple[GaussianBottleneck, torch.Tensor]:
    torch.manual_seed(0)
    return GaussianBottleneck(6, 3), torch.randn(4, 50, 6)


def test_the_divergence_is_that_of_the_paper() -> None:
    bottleneck, latent = make()
    mean, log_variance = bottleneck.reduce(latent).chunk(2, dim=-1)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(bottleneck(latent).losses, {"kl": expected})
    with torch.no_grad():
        bottleneck.reduce.weight.zero_()
    assert bottleneck(latent).losses["kl"] == 0


def test_training_samples_and_evaluation_uses_the_mean() -> None:
    bottleneck, latent = make()
    with torch.no_grad():
        bottleneck.expand.weight.zero_()[:3] = torch.eye(3)
    latent = latent[:1, :1].expand(1, 20_000, -1)
    drawn = bottleneck(latent).latent[0, :, :3]
    mean, log_variance = bottleneck.reduce(latent)[0, 0].chunk(2)
    torch.testing.assert_close(drawn.mean(0), mean, rtol=0.05, atol=0.05)
    torch.testing.assert_close(drawn.std(0), (0.5 * log_variance).exp(), rtol=0.05, atol=0.05)
    quantized = bottleneck.eval()(latent)
    assert torch.equal(quantized.latent, bottleneck.unembed(bottleneck.embed(latent)))
    assert quantized.codes.shape == (1, 0, 20_000)


def test_gradients_reach_the_encoder_through_the_sample() -> None:
    bottleneck, latent = make()
    latent.requires_grad_()
    quantized = bottleneck(latent)
    for target in (quantized.latent.sum(), quantized.losses["kl"]):
        (gradient,) = torch.autograd.grad(target, latent, retain_graph=True)
        assert gradient.isfinite().all() and gradient.any()


def test_a_huge_latent_has_a_finite_loss() -> None:
    bottleneck, latent = make()
    for scale in (-1e4, 1e4):
        quantized = bottleneck(latent * scale)
        assert quantized.latent.isfinite().all() and quantized.losses["kl"].isfinite()


@torch.no_grad()
def test_initialization_from_data_keeps_the_principal_directions() -> None:
    bottleneck, _ = make()
    latent = torch.randn(3000, 6) * torch.tensor([2.0, 1.5, 1.0, 0.1, 0.1, 0.1]) + 1
    bottleneck.initialize(latent)
    embedding = bottleneck.embed(latent)
    torch.testing.assert_close(embedding.T.cov(), torch.eye(3), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(embedding.mean(0), torch.zeros(3), atol=1e-3, rtol=0)
    error = (bottleneck.unembed(embedding) - latent).square().sum(-1).mean()
    assert float(error) == pytest.approx(0.03, rel=0.1)
    noisy = (bottleneck(latent[None]).latent - latent).square().sum(-1).mean()
    assert 0.03 < noisy < 0.05 * latent.var(0).sum()


def test_what_needs_codes_is_refused_in_one_line(vae: Codec) -> None:
    audio = torch.from_numpy(sound(500))[None]
    for call in (
        lambda: vae.encode(audio),
        lambda: vae.embed(audio, 2),
        lambda: vae.decode(torch.zeros(1, 1, 3, dtype=torch.int64)),
        lambda: vae.decode(torch.zeros(1, 0, 3, dtype=torch.int64)),
        lambda: StreamEncoder(vae),
        lambda: StreamEncoder(vae, rate=1000),
        lambda: vae.config.codebooks_for(1000),
    ):
        with pytest.raises(ConfigError, match=r"no codes: use Codec\.embed\(\)") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_the_command_refuses_it_in_one_line_and_describes_it(vae: Codec, tmp_path: Path) -> None:
    save_codec(vae, tmp_path / "vae", name="smooth")
    soundfile.write(tmp_path / "in.wav", sound(500)[0], 8000)
    model = ("-m", tmp_path / "vae")
    for bitrate in ((), ("-b", "1k")):
        result = run("encode", tmp_path / "in.wav", tmp_path / "a.codes", *model, *bitrate)
        fails(result, 1, "no codes: use Codec.embed()")
    assert not (tmp_path / "a.codes").exists()
    facts = json.loads(run("info", *model, "--json").stdout)
    assert (facts["bottleneck"], facts["plain_bitrates"]) == ("vae", [])
    shown = run("info", *model).stdout
    assert any(line.split() == ["plain", "bitrates", "-"] for line in shown.splitlines()), shown
    assert format_bitrate(1000) not in shown
