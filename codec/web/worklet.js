/** Sound in and out of the audio thread, which must never wait: the worker computes. */

/** Sends what it hears to a port, in blocks of about 10 ms, an array per channel. */
class Capture extends AudioWorkletProcessor {
  constructor({ channelCount }) {
    super();
    this._blocks = Array.from({ length: channelCount }, () => new Float32Array(512));
    this._filled = 0;
    this._running = true;
    // The first message brings the port of the worker, the second ends the recording.
    this.port.onmessage = ({ data }) => {
      if (data) this._target = data;
      else this._end();
    };
  }

  process([channels]) {
    if (!channels.length || !this._target) return this._running;
    if (this._filled + channels[0].length > this._blocks[0].length) this._send();
    channels.forEach((samples, c) => this._blocks[c].set(samples, this._filled));
    this._filled += channels[0].length;
    return this._running;
  }

  _send() {
    this._target.postMessage(this._blocks.map((block) => block.slice(0, this._filled)));
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
  constructor({ outputChannelCount: [count] }) {
    super();
    this._size = Math.round(0.4 * sampleRate); // the longest delay
    this._rings = Array.from({ length: count }, () => new Float32Array(this._size));
    this._read = 0;
    this._held = 0;
    // Blocks arrive unevenly: this much is held before it begins, and again after it ran dry.
    this._reserve = Math.round(0.06 * sampleRate);
    this._playing = false;
    this.port.onmessage = ({ data: port }) => {
      port.onmessage = ({ data }) => this._write(data);
    };
  }

  _write(channels) {
    for (let i = 0; i < channels[0].length; i++) {
      const place = (this._read + this._held) % this._size;
      this._rings.forEach((ring, c) => (ring[place] = channels[c][i]));
      // Full: the oldest is dropped, so that the delay does not grow.
      if (this._held === this._size) this._read = (this._read + 1) % this._size;
      else this._held++;
    }
  }

  process(_, [outputs]) {
    const wanted = outputs[0].length;
    this._playing = this._held >= (this._playing ? wanted : this._reserve);
    if (!this._playing) return true;
    for (let i = 0; i < wanted; i++) {
      const place = (this._read + i) % this._size;
      outputs.forEach((output, c) => (output[i] = this._rings[c][place]));
    }
    this._read = (this._read + wanted) % this._size;
    this._held -= wanted;
    return true;
  }
}

registerProcessor("capture", Capture);
registerProcessor("playback", Playback);
