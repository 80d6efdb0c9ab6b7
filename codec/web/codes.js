/** `Codes`: what the network makes of audio, and the frames that stand for silence. */

/** In place of a code that is absent. */
export const NO_CODE = -1;

const NUM_REFERENCES = 16; // frames before a pause that stand for it, at most

/** Codes `[rows, count, frames]` in one array, the frames varying fastest.
 *
 * Rows are groups of channels, and `count` is the number of codes of a frame.
 */
export class Codes {
  constructor(rows, count, frames, values = new Int32Array(rows * count * frames).fill(NO_CODE)) {
    Object.assign(this, { rows, count, frames, values });
  }

  /** Frames one after the other, of codes of the same rows and count. */
  static joined(parts, { rows, count } = parts[0]) {
    const frames = parts.reduce((sum, part) => sum + part.frames, 0);
    const all = new Codes(rows, count, frames);
    let start = 0;
    for (const part of parts) {
      for (let i = 0; i < rows * count; i++) {
        all.values.set(part._frames(i), i * frames + start);
      }
      start += part.frames;
    }
    return all;
  }

  /** Codes in the order of plain payloads: by frame, then row. */
  static fromOrder(rows, count, ordered) {
    const frames = ordered.length / (rows * count) || 0;
    const values = new Int32Array(ordered.length);
    ordered.forEach((code, i) => {
      const place = i % (rows * count);
      values[place * frames + (i - place) / (rows * count)] = code;
    });
    return new Codes(rows, count, frames, values);
  }

  inOrder() {
    const size = this.rows * this.count;
    return this.values.map((_, i) => this.values[(i % size) * this.frames + Math.floor(i / size)]);
  }

  /** The first codes of each frame, `count` at most. */
  first(count) {
    if (count >= this.count) return this;
    const kept = this.values.filter((_, i) => Math.floor(i / this.frames) % this.count < count);
    return new Codes(this.rows, count, this.frames, kept);
  }

  /** One frame, counted from the end if it is negative, `times` in a row. */
  frame(index, times = 1) {
    const found = new Codes(this.rows, this.count, times);
    for (let i = 0; i < this.rows * this.count; i++) {
      found._frames(i).fill(this._frames(i).at(index));
    }
    return found;
  }

  /** Codes of a packet with those of earlier frames where there are none.
   *
   * A pause that begins with frame s repeats the n frames before it, which have codes and are
   * `NUM_REFERENCES` at most. Its frame i, counted from 0, is that of age `noiseAge(n, i)`, where 0
   * is frame s - 1. Nothing outside of the packet is needed.
   */
  withPausesFilled() {
    const filled = new Codes(this.rows, this.count, this.frames, this.values.slice());
    for (let row = 0; row < this.rows; row++) {
      const first = row * this.count;
      const isPause = this._frames(first).map((code) => code === NO_CODE);
      let known = 0; // frames that would stand for a pause that begins now
      let start = 0; // where it would begin
      for (let frame = 0; frame < this.frames; frame++) {
        if (!isPause[frame]) {
          if (start < frame) known = 0; // a pause has just ended
          known = Math.min(known + 1, NUM_REFERENCES);
          start = frame + 1;
        } else if (known) {
          const from = start - 1 - noiseAge(known, frame - start);
          for (let k = first; k < first + this.count; k++) {
            filled._frames(k)[frame] = this._frames(k)[from];
          }
        } // else the packet begins with this pause: nothing stands for it
      }
    }
    return filled;
  }

  _frames(i) {
    return this.values.subarray(i * this.frames, (i + 1) * this.frames);
  }
}

/** Codes of silence that was not sent, from those of a packet of comfort noise. */
export class ComfortNoise {
  /**
   * @param codes of the packet, whose last frame is its own.
   * @param numFrames for which noise may be played until a packet describes it again.
   */
  constructor(codes, numFrames) {
    Object.assign(this, { _codes: codes, _numFrames: numFrames, _played: 0 });
  }

  /** Codes of the next frame after the packet's own; null if the sender is gone. */
  next() {
    if (++this._played > this._numFrames) return null;
    return this._codes.frame(-1 - noiseAge(this._codes.frames, this._played));
  }
}

/** Age of the frame that is played at an index, of `count` frames of noise; 0 is the newest. */
const noiseAge = (count, index) => Math.floor((count * ((40503 * index) % 65536)) / 65536);
