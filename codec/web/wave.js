/** WAV files of 16 bits. */

/** @param channels one Float32Array per channel. */
export function writeWave(channels, sampleRate) {
  const count = channels.length;
  const size = 2 * count * channels[0].length;
  const bytes = new Uint8Array(44 + size);
  const view = new DataView(bytes.buffer);
  const text = (at, characters) => bytes.set(new TextEncoder().encode(characters), at);
  text(0, "RIFF");
  view.setUint32(4, 36 + size, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // integers
  view.setUint16(22, count, true);
  view.setUint32(24, sampleRate, true);
  view.setUint32(28, 2 * count * sampleRate, true);
  view.setUint16(32, 2 * count, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, size, true);
  channels.forEach((samples, channel) => {
    samples.forEach((sample, i) => {
      const value = Math.max(-32768, Math.min(32767, Math.round(32768 * sample)));
      view.setInt16(44 + 2 * (i * count + channel), value, true);
    });
  });
  return bytes;
}
