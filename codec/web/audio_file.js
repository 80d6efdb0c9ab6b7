/** Audio files, decoded by the browser at their own sampling rate. */

import { CodecError } from "./errors.js";

const UNKNOWN_RATE = 48_000;

/** Audio of a file: `{sampleRate, channels}`, one Float32Array per channel.
 *
 * @param bytes of the file.
 * @param name for the message if it is no audio.
 */
export async function readAudio(bytes, name) {
  const sampleRate = sampleRateOf(bytes) ?? UNKNOWN_RATE;
  let audio;
  try {
    // The browser resamples to the rate of the context, so this one has that of the file.
    const context = new OfflineAudioContext(1, 1, sampleRate);
    audio = await context.decodeAudioData(bytes.slice().buffer);
  } catch {
    throw new CodecError(
      `${name} is neither audio that this browser can decode nor a .codes stream: choose a WAV, FLAC, MP3, Ogg or .codes file`,
    );
  }
  const channels = Array.from({ length: audio.numberOfChannels }, (_, i) =>
    audio.getChannelData(i),
  );
  return { sampleRate, channels };
}

/** Sampling rate that the file states; null if it is of a kind that is not known here. */
export function sampleRateOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const rate = statedRate(view);
  // What a browser's audio context accepts.
  return rate !== null && rate >= 8_000 && rate <= 96_000 ? rate : null;
}

function statedRate(view) {
  switch (text(view, 0, 4)) {
    case "RIFF":
      return waveRate(view);
    case "fLaC": // 20 bits of the block STREAMINFO
      return view.byteLength > 22 ? view.getUint32(18) >> 12 : null;
    case "OggS":
      return oggRate(view);
  }
  return mpegRate(view);
}

function waveRate(view) {
  for (let at = 12; at + 16 <= view.byteLength;) {
    if (text(view, at, 4) === "fmt ") return view.getUint32(at + 12, true);
    const size = view.getUint32(at + 4, true);
    at += 8 + size + (size % 2);
  }
  return null;
}

/** Of the first packet, which follows the table of segments. */
function oggRate(view) {
  const packet = 27 + (view.byteLength > 26 ? view.getUint8(26) : 0);
  if (text(view, packet, 8) === "OpusHead") return 48_000;
  if (text(view, packet + 1, 6) === "vorbis" && view.byteLength >= packet + 16) {
    return view.getUint32(packet + 12, true);
  }
  return null;
}

/** Of the first frame of MPEG audio, after a tag of ID3. */
function mpegRate(view) {
  let at = 0;
  if (text(view, 0, 3) === "ID3" && view.byteLength > 10) {
    at = 10;
    for (let i = 6; i < 10; i++) at += view.getUint8(i) << (7 * (9 - i));
  }
  if (at + 4 > view.byteLength || view.getUint16(at) < 0xffe0) return null;
  const version = (view.getUint8(at + 1) >> 3) & 3; // 3 is MPEG 1, 2 is MPEG 2, 0 is MPEG 2.5
  const rate = [44_100, 48_000, 32_000][(view.getUint8(at + 2) >> 2) & 3];
  return rate && version !== 1 ? rate / { 3: 1, 2: 2, 0: 4 }[version] : null;
}

function text(view, at, length) {
  if (at + length > view.byteLength) return "";
  const codes = Array.from({ length }, (_, i) => view.getUint8(at + i));
  return String.fromCharCode(...codes);
}
