/** The high-pass before coding: codec/highpass.py says why and how. */

const STATE_SIZE = 13; // AEC_HIGH_PASS_STATE

/** The filter of one channel. */
export class HighPass {
  constructor(core, sampleRate, hopLength) {
    Object.assign(this, { _core: core, _sampleRate: sampleRate, _hopLength: hopLength });
    this._state = new Float64Array(STATE_SIZE);
  }

  /** Filter the next frames. */
  push(samples) {
    const filtered = new Float32Array(samples.length);
    this._core.call(
      "aec_high_pass",
      ...[this._sampleRate, this._hopLength, 1, samples, samples.length],
      ...[this._state, STATE_SIZE, filtered, filtered.length],
    );
    return filtered;
  }

  /** Filter a whole signal of any length. */
  whole(signal) {
    const padded = new Float32Array(Math.ceil(signal.length / this._hopLength) * this._hopLength);
    padded.set(signal);
    return this.push(padded).subarray(0, signal.length);
  }
}
