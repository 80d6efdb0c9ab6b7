/** Resampling by a windowed sinc, in pieces of any length. */

const ZERO_CROSSINGS = 32; // on each side
const BETA = 9; // of the Kaiser window: 90 dB below the passband
const PASSBAND = 0.94; // of the lower of both Nyquist frequencies

export class Resampler {
  constructor(sourceRate, targetRate) {
    const divisor = gcd(sourceRate, targetRate);
    this._up = targetRate / divisor;
    this._down = sourceRate / divisor;
    this._cutoff = PASSBAND * Math.min(1, targetRate / sourceRate);
    this._half = Math.ceil(ZERO_CROSSINGS / this._cutoff);
    this._phases = []; // filters, made when they are first needed
    this._held = new Float32Array(this._half - 1); // input that is still needed, after silence
    this._start = 1 - this._half; // place of its first sample in the signal
    this._numOut = 0;
  }

  /** The output that is complete after these samples. */
  push(samples) {
    if (this._up === this._down) return samples;
    const input = new Float32Array(this._held.length + samples.length);
    input.set(this._held);
    input.set(samples, this._held.length);
    // Output n lies at input n * down / up, and needs `half` samples on each side.
    const end = this._start + input.length - this._half;
    const total = Math.max(this._numOut, Math.ceil((end * this._up) / this._down));
    const output = new Float32Array(total - this._numOut);
    for (let i = 0; i < output.length; i++) {
      const position = (this._numOut + i) * this._down;
      const filter = this._filter(position % this._up);
      const first = Math.floor(position / this._up) - this._half + 1 - this._start;
      let sum = 0;
      for (let tap = 0; tap < filter.length; tap++) sum += filter[tap] * input[first + tap];
      output[i] = sum;
    }
    this._numOut = total;
    const needed = Math.floor((total * this._down) / this._up) - this._half + 1;
    this._held = input.slice(needed - this._start);
    this._start = needed;
    return output;
  }

  /** Taps for an output that lies `phase / up` of a sample after an input. */
  _filter(phase) {
    this._phases[phase] ??= Float32Array.from({ length: 2 * this._half }, (_, tap) => {
      const time = tap - this._half + 1 - phase / this._up;
      const window = Math.max(0, 1 - (time / this._half) ** 2);
      const kaiser = bessel(BETA * Math.sqrt(window)) / bessel(BETA);
      return this._cutoff * sinc(this._cutoff * time) * kaiser;
    });
    return this._phases[phase];
  }
}

/** A whole signal at another rate, of `ceil(length * targetRate / sourceRate)` samples. */
export function resample(signal, sourceRate, targetRate) {
  if (sourceRate === targetRate) return signal;
  const output = new Float32Array(Math.ceil((signal.length * targetRate) / sourceRate));
  const resampler = new Resampler(sourceRate, targetRate);
  const silence = new Float32Array(2 * resampler._half);
  const first = resampler.push(signal);
  output.set(first);
  output.set(resampler.push(silence).subarray(0, output.length - first.length), first.length);
  return output;
}

const gcd = (a, b) => (b ? gcd(b, a % b) : a);

const sinc = (x) => (x ? Math.sin(Math.PI * x) / (Math.PI * x) : 1);

/** The modified Bessel function of order zero, by its power series. */
function bessel(x) {
  let sum = 1;
  let term = 1;
  for (let k = 1; term > 1e-12 * sum; k++) sum += term *= (x / (2 * k)) ** 2;
  return sum;
}
