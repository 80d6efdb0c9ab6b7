/** Pauses in files, which take next to no bits: codec/activity/pauses.py says how they are found. */

const LOWEST_DB = -200;

/** Finds pauses in packets that follow one another. */
export class PauseDetector {
  constructor(core, { sampleRate, hopLength }) {
    Object.assign(this, { _core: core, _sampleRate: sampleRate, _hopLength: hopLength });
    this._loudest = Float64Array.of(LOWEST_DB);
  }

  /** Most codes `[channels, frames]` of the frames of the next packet, `UNLIMITED` in most.
   *
   * @param audio `[channels, frames * hop]`.
   */
  limits(audio, channels) {
    const found = new Uint8Array(audio.length / this._hopLength);
    const size = this._core.result("aec_pauses_scratch", this._hopLength, found.length);
    const scratch = new Float32Array(size);
    this._core.call(
      "aec_find_pauses",
      ...[this._sampleRate, this._hopLength, channels, audio, audio.length],
      ...[this._loudest, 1, found, found.length, scratch, size],
    );
    return found;
  }
}
