/** Sound in and out of the audio thread. onnxruntime does not start in here: the worker computes. */

/** Sends what it hears to a port, in blocks of about 10 ms. */
class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this._block = new Float32Array(512);
    this._filled = 0;
    this._running = true;
    // The first message brings the port of the worker, the second ends the recording.
    this.port.onmessage = ({ data }) => {
      if (data) this._target = data;
      else this._end();
    };
  }

  process([[samples]]) {
    if (!samples || !this._target) return this._running;
    if (this._filled + samples.length > this._block.length) this._send();
    this._block.set(samples, this._filled);
    this._filled += samples.length;
    return this._running;
  }

  _send() {
    this._target.postMessage(this._block.slice(0, this._filled));
    this._filled = 0;
  }

  _end() {
    this._running = false;
    if (!this._target) return;
    this._send();
    this._target.postMessage(null);
  }
}

/** Plays what arrives from a port, through a ring buffer. */
class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this._ring = new Float32Array(Math.round(0.4 * sampleRate)); // the longest delay
    this._read = 0;
    this._held = 0;
    // Blocks arrive unevenly: this much is held before it begins, and again after it ran dry.
    this._reserve = Math.round(0.06 * sampleRate);
    this._playing = false;
    this.port.onmessage = ({ data: port }) => {
      port.onmessage = ({ data }) => this._write(data);
    };
  }

  _write(samples) {
    const { length } = this._ring;
    for (const sample of samples) {
      this._ring[(this._read + this._held) % length] = sample;
      // Full: the oldest is dropped, so that the delay does not grow.
      if (this._held === length) this._read = (this._read + 1) % length;
      else this._held++;
    }
  }

  process(_, [outputs]) {
    const wanted = outputs[0].length;
    this._playing = this._held >= (this._playing ? wanted : this._reserve);
    if (!this._playing) return true;
    for (let i = 0; i < wanted; i++) {
      const sample = this._ring[(this._read + i) % this._ring.length];
      for (const output of outputs) output[i] = sample;
    }
    this._read = (this._read + wanted) % this._ring.length;
    this._held -= wanted;
    return true;
  }
}

registerProcessor("capture", Capture);
registerProcessor("playback", Playback);
