/** Spectrograms on canvases. */

const WINDOW_SECONDS = 0.043;
const QUIETEST = -100; // dB below a sine of full scale: dark
const LOUDEST = -20; // bright
const COLOURS = [
  [11, 10, 24],
  [66, 22, 98],
  [158, 42, 98],
  [232, 96, 56],
  [252, 178, 62],
  [255, 250, 200],
];

/** Draw the mean of all channels.
 *
 * @param canvas whose width and height are numbers of columns and rows.
 * @param channels one Float32Array per channel.
 * @param sampleRate of the channels.
 * @param highest frequency at the upper edge.
 */
export function drawSpectrogram(canvas, channels, sampleRate, highest) {
  const { width, height } = canvas;
  const size = 2 ** Math.round(Math.log2(WINDOW_SECONDS * sampleRate));
  const window = Float64Array.from(
    { length: size },
    (_, i) => 1 - Math.cos((2 * Math.PI * (i + 0.5)) / size),
  );
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const { length } = channels[0];
  const real = new Float64Array(size);
  const imaginary = new Float64Array(size);
  for (let x = 0; x < width; x++) {
    const start = Math.round(((x + 0.5) / width) * length - size / 2);
    for (let i = 0; i < size; i++) {
      let sample = 0;
      for (const channel of channels) sample += channel[start + i] ?? 0;
      real[i] = (window[i] * sample) / channels.length;
      imaginary[i] = 0;
    }
    transform(real, imaginary);
    for (let y = 0; y < height; y++) {
      // The loudest of the bins that belong to the row.
      const step = ((highest / sampleRate) * size) / height;
      const first = Math.floor((height - 1 - y) * step);
      const end = Math.max(first + 1, Math.floor((height - y) * step));
      let power = 0;
      for (let bin = first; bin < Math.min(end, size / 2); bin++) {
        power = Math.max(power, real[bin] ** 2 + imaginary[bin] ** 2);
      }
      const level = 10 * Math.log10(power / (size / 2) ** 2 + 1e-12);
      image.data.set(colour((level - QUIETEST) / (LOUDEST - QUIETEST)), 4 * (y * width + x));
    }
  }
  context.putImageData(image, 0, 0);
}

function colour(share) {
  const place = Math.min(1, Math.max(0, share)) * (COLOURS.length - 1);
  const index = Math.min(Math.floor(place), COLOURS.length - 2);
  const [below, above] = [COLOURS[index], COLOURS[index + 1]];
  return [...below.map((value, i) => value + (place - index) * (above[i] - value)), 255];
}

/** Fourier transform in place (Cooley and Tukey, 1965); the length is a power of two. */
function transform(real, imaginary) {
  const size = real.length;
  for (let i = 1, j = 0; i < size; i++) {
    let bit = size >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j |= bit;
    if (i < j) {
      [real[i], real[j]] = [real[j], real[i]];
      [imaginary[i], imaginary[j]] = [imaginary[j], imaginary[i]];
    }
  }
  for (let half = 1; half < size; half *= 2) {
    for (let k = 0; k < half; k++) {
      const cos = Math.cos((Math.PI * k) / half);
      const sin = -Math.sin((Math.PI * k) / half);
      for (let i = k; i < size; i += 2 * half) {
        const j = i + half;
        const re = cos * real[j] - sin * imaginary[j];
        const im = cos * imaginary[j] + sin * real[j];
        real[j] = real[i] - re;
        imaginary[j] = imaginary[i] - im;
        real[i] += re;
        imaginary[i] += im;
      }
    }
  }
}
