/** The high-pass before coding: the filter of codec/highpass.py, which says why and how. */

// Frequencies in Hz of zeros and poles, and the quality of the poles; 0.5 is a single one of each.
const HIGH_PASS = [
  [0, 52.18, 0.5],
  [15.38, 43.74, 0.8852],
  [23.65, 37.83, 3.483],
];
const LOW_PASS = [
  [154.8, 13.78, 0.7966],
  [66.16, 24.89, 3.888],
];
const LOW_PASS_GAIN = 0.001;
const RUMBLE = 10 ** (-50 / 20);
const MEMORY_SECONDS = 0.5;
const NEGLIGIBLE = 1e-15;

/** One channel, in whole frames. */
export class HighPass {
  constructor(sampleRate, hopLength) {
    this._hopLength = hopLength;
    this._high = HIGH_PASS.map((section) => new Section(section, sampleRate));
    this._low = LOW_PASS.map((section) => new Section(section, sampleRate));
    this._direct = this._low.reduce((gain, section) => gain * section.direct, LOW_PASS_GAIN);
    const numBlocks = Math.max(1, Math.round(Math.sqrt(hopLength / 10)));
    this._blockSize = Math.ceil(hopLength / numBlocks);
    this._numBlocks = numBlocks;
    this._weight = -Math.expm1(-hopLength / (MEMORY_SECONDS * sampleRate));
    this._power = 0; // mean of what lies below 25 Hz
  }

  /** Filter the next frames. */
  push(samples) {
    const output = new Float32Array(samples.length);
    for (let start = 0; start < samples.length; start += this._hopLength) {
      const end = start + this._hopLength;
      this._frame(samples.subarray(start, end), output.subarray(start, end));
    }
    return output;
  }

  _frame(samples, output) {
    const high = new Float64Array(samples.length);
    let power = 0;
    for (let i = 0; i < samples.length; i++) {
      high[i] = through(this._high, samples[i]);
      const low = through(this._low, LOW_PASS_GAIN * samples[i]);
      if (i % this._blockSize === 0) power += (low - this._direct * samples[i]) ** 2;
    }
    const before = this._gain();
    this._power += this._weight * (power / this._numBlocks - this._power);
    const rise = (this._gain() - before) / samples.length;
    for (let i = 0; i < samples.length; i++) {
      output[i] = samples[i] + (before + rise * (i + 1)) * (high[i] - samples[i]);
    }
    for (const section of [...this._high, ...this._low]) section.settle();
  }

  _gain() {
    return Math.min(1, Math.max(0, Math.sqrt(this._power) / RUMBLE - 1));
  }
}

/** A whole signal of any length. */
export function highPass(signal, sampleRate, hopLength) {
  const padded = new Float32Array(Math.ceil(signal.length / hopLength) * hopLength);
  padded.set(signal);
  return new HighPass(sampleRate, hopLength).push(padded).subarray(0, signal.length);
}

/** A sample after sections that follow one another. */
function through(sections, sample) {
  for (const section of sections) sample = section.next(sample);
  return sample;
}

/** A filter of first or second order, made from an analog one by the bilinear transform. */
class Section {
  constructor([zero, pole, quality], sampleRate) {
    const rate = sampleRate / Math.PI;
    const coefficients =
      quality === 0.5
        ? [rate + zero, zero - rate, 0, rate + pole, pole - rate, 0]
        : [
            ...secondOrder(rate, zero, 0),
            ...secondOrder(rate, pole, pole / quality),
          ];
    const scale = coefficients[3];
    [this._b0, this._b1, this._b2, , this._a1, this._a2] = coefficients.map((c) => c / scale);
    this._first = 0;
    this._second = 0;
  }

  /** Gain from a sample to the output at the same time. */
  get direct() {
    return this._b0;
  }

  next(input) {
    const output = this._b0 * input + this._first;
    this._first = this._b1 * input - this._a1 * output + this._second;
    this._second = this._b2 * input - this._a2 * output;
    return output;
  }

  /** Set to zero what is too small to matter: processors are slow with far smaller numbers. */
  settle() {
    if (Math.abs(this._first) < NEGLIGIBLE) this._first = 0;
    if (Math.abs(this._second) < NEGLIGIBLE) this._second = 0;
  }
}

/** Coefficients of s² + width · s + frequency², where s is `rate` times (z - 1) / (z + 1). */
function secondOrder(rate, frequency, width) {
  const squares = rate ** 2 + frequency ** 2;
  return [squares + rate * width, 2 * (frequency ** 2 - rate ** 2), squares - rate * width];
}
