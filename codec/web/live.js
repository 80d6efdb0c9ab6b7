/** A live session in the worker: microphone, encoder, decoder, loudspeaker, frame by frame. */

import { HighPass } from "./highpass.js";
import { Resampler } from "./resample.js";
import { firstCodebooks, framesFor, headerFor, joined, writeStream } from "./session.js";

const WARM_UP_STEPS = 10;

export class Live {
  /**
   * @param engine the model.
   * @param numCodebooks how many to use.
   * @param sampleRate of both ports.
   * @param input port that sends blocks of samples, and null after the last one.
   * @param output port that takes blocks of decoded samples.
   */
  constructor(engine, numCodebooks, sampleRate, input, output) {
    Object.assign(this, { engine, numCodebooks, output });
    const { info } = engine;
    this._in = new Resampler(sampleRate, info.sampleRate);
    this._out = new Resampler(info.sampleRate, sampleRate);
    this._filter = new HighPass(info.sampleRate, info.hopLength);
    this._encoder = engine.initState("encoder", 1);
    this._decoder = engine.initState("decoder", 1);
    this._rest = new Float32Array(0); // samples that do not fill a frame yet
    this._recorded = [];
    this._codes = [];
    this._seconds = { encodeSeconds: 0, decodeSeconds: 0 };
    this._late = 0; // steps that took longer than a frame lasts
    this._queue = Promise.resolve();
    this._ended = new Promise((resolve) => {
      input.onmessage = ({ data }) => {
        if (data === null) resolve();
        else this._queue = this._queue.then(() => this._push(data));
      };
    });
  }

  /** Steps whose state is dropped: the first ones of a graph are slow. */
  async warmUp() {
    const { engine } = this;
    const silence = new Float32Array(engine.info.hopLength);
    for (let i = 0; i < WARM_UP_STEPS; i++) {
      const [codes] = await engine.encodeStep(silence, 1, this._encoder);
      await engine.decodeStep(codes, 1, engine.info.numCodebooks, this._decoder);
    }
  }

  async _push(samples) {
    const { hopLength } = this.engine.info;
    const block = this._in.push(samples);
    this._recorded.push(block);
    this._rest = joined([this._rest, block], Float32Array);
    while (this._rest.length >= hopLength) {
      const frame = this._rest.slice(0, hopLength);
      this._rest = this._rest.slice(hopLength);
      await this._step(this._filter.push(frame));
    }
  }

  async _step(frame) {
    const { engine, numCodebooks } = this;
    const start = performance.now();
    const [all, encoder] = await engine.encodeStep(frame, 1, this._encoder);
    const codes = firstCodebooks(all, engine.info.numCodebooks, numCodebooks);
    const between = performance.now();
    const [audio, decoder] = await engine.decodeStep(codes, 1, numCodebooks, this._decoder);
    const end = performance.now();
    this._encoder = encoder;
    this._decoder = decoder;
    this._codes.push(codes);
    this._seconds.encodeSeconds += (between - start) / 1000;
    this._seconds.decodeSeconds += (end - between) / 1000;
    if ((end - start) / 1000 > frame.length / engine.info.sampleRate) this._late++;
    const output = this._out.push(audio);
    this.output.postMessage(output, [output.buffer]);
  }

  /** The recording after the input has ended: its samples at the model's rate, and its stream. */
  async finish() {
    await this._ended;
    await this._queue;
    const { info } = this.engine;
    const original = joined(this._recorded, Float32Array);
    if (this._rest.length) {
      const frame = new Float32Array(info.hopLength);
      frame.set(this._rest);
      await this._step(this._filter.push(frame).fill(0, this._rest.length));
    }
    const header = headerFor(info, 1, this.numCodebooks, info.sampleRate, original.length);
    const numFrames = framesFor(info, header, original.length);
    while (this._codes.length < numFrames) await this._step(new Float32Array(info.hopLength));
    const bytes = writeStream(
      header,
      joined(this._codes, Int32Array),
      original.length,
      this.engine.context,
    );
    return { bytes, original, seconds: this._seconds, late: this._late };
  }
}
