"""A self-contained HTML page for listening to codecs side by side.

Each clip has a player and a spectrogram for every version. Starting one version stops the one that
is playing and continues at its position, so that listeners can switch between versions.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
import soundfile
from PIL import Image

from benchmarks.shared.spectra import stft_magnitudes

WIDTH, HEIGHT = 400, 128
"""Size of a spectrogram in pixels."""
WINDOW = 512
FLOOR_DB = -90.0


class Version(NamedTuple):
    """A clip after one codec.

    Attributes:
        name: name of the codec.
        detail: its bitrate, with the unit.
        audio: ``[N]`` float32.
    """

    name: str
    detail: str
    audio: np.ndarray


class Clip(NamedTuple):
    """A clip and its versions, the original first.

    Attributes:
        sound_class: class of sound.
        name: name of the recording.
        versions: versions to compare.
    """

    sound_class: str
    name: str
    versions: Sequence[Version]


STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 86rem;
  padding: 0 1rem; color: #1a1a1a; background: #fafafa }
h2 { margin: 2.2rem 0 0; text-transform: capitalize } h3 { margin: 1rem 0 .5rem; font-weight: 500 }
.versions { display: grid; gap: .9rem;
  grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)) }
figure { margin: 0; padding: .6rem; background: #fff; border: 1px solid #ddd; border-radius: 8px }
figure.playing { border-color: #d55e00; box-shadow: 0 0 0 1px #d55e00 }
figcaption { display: flex; justify-content: space-between; margin-bottom: .35rem }
figcaption span { color: #555 }
audio { width: 100%; height: 2.2rem } img { width: 100%; display: block; margin-top: .4rem }
.axis { display: flex; justify-content: space-between; color: #666; font-size: 12px }
"""

SCRIPT = """
for (const clip of document.querySelectorAll(".versions")) {
  const players = [...clip.querySelectorAll("audio")];
  for (const player of players) {
    const frame = player.closest("figure");
    player.addEventListener("play", () => {
      for (const other of document.querySelectorAll("audio")) {
        if (other === player || other.paused) continue;
        other.pause();
        if (players.includes(other)) player.currentTime = other.currentTime;
      }
      frame.classList.add("playing");
    });
    player.addEventListener("pause", () => frame.classList.remove("playing"));
  }
}
"""


def make_page(clips: Sequence[Clip], sample_rate: int, remarks: Sequence[str]) -> str:
    """The page as HTML.

    Args:
        clips: clips in the order of the page, with a heading where the class of sound changes.
        sample_rate: sample rate of all audio, in Hz.
        remarks: paragraphs about how the page was made.
    """
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',
        f"<title>Codecs side by side</title><style>{STYLE}</style></head><body>",
        "<h1>Codecs side by side</h1>",
        "<p>Starting one version stops the one that is playing and continues at its position.</p>",
        *(f"<p>{html.escape(remark)}</p>" for remark in remarks),
    ]
    sound_class = None
    for clip in clips:
        if clip.sound_class != sound_class:
            sound_class = clip.sound_class
            parts.append(f"<h2>{html.escape(sound_class)}</h2>")
        parts += [f"<h3>{html.escape(clip.name)}</h3>", '<div class="versions">']
        parts += [_figure(version, sample_rate) for version in clip.versions]
        parts.append("</div>")
    parts.append(f"<script>{SCRIPT}</script></body></html>")
    return "\n".join(parts) + "\n"


def _figure(version: Version, sample_rate: int) -> str:
    name, detail = html.escape(version.name), html.escape(version.detail)
    seconds = len(version.audio) / sample_rate
    return (
        f"<figure><figcaption><b>{name}</b><span>{detail}</span></figcaption>"
        f'<audio controls preload="metadata" src="{_flac(version.audio, sample_rate)}"></audio>'
        f'<img alt="spectrogram of {name} {detail}" width="{WIDTH}" height="{HEIGHT}" '
        f'src="{_spectrogram(version.audio)}">'
        f'<div class="axis"><span>0 s</span><span>0 to {sample_rate / 2000:g} kHz, '
        f"{FLOOR_DB:g} to 0 dB</span><span>{seconds:.1f} s</span></div></figure>"
    )


def _data(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _flac(audio: np.ndarray, sample_rate: int) -> str:
    """Lossless, so that only the codec under test changes the audio."""
    target = io.BytesIO()
    soundfile.write(target, audio.clip(-1, 1), sample_rate, "PCM_16", format="FLAC")
    return _data("audio/flac", target.getvalue())


def _spectrogram(audio: np.ndarray) -> str:
    """Levels relative to a full-scale sine, low frequencies at the bottom."""
    magnitudes = stft_magnitudes(audio, WINDOW)
    levels = 20 * np.log10(np.maximum(magnitudes, 10 ** (FLOOR_DB / 20)))
    shades = matplotlib.colormaps["magma"](1 - levels[::-1] / FLOOR_DB, bytes=True)
    picture = Image.fromarray(shades[..., :3]).resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    target = io.BytesIO()
    picture.save(target, "JPEG", quality=80)
    return _data("image/jpeg", target.getvalue())
