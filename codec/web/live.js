/** A live session in the worker: microphone, encoder, decoder, loudspeaker, frame by frame.
 *
 * It has as many channels as the model codes together.
 */

import { bitsOf } from "./format/payload.js";
import { HighPass } from "./highpass.js";
import { Resampler } from "./resample.js";
import { firstCodes, framesFor, headerFor, joined, writeStream } from "./session.js";

const WARM_UP_STEPS = 10;

export class Live {
  /**
   * @param engine the model.
   * @param numCodebooks how many to use.
   * @param sampleRate of both ports.
   * @param input port that sends blocks of samples, an array per channel, and null after the last.
   * @param output port that takes blocks of decoded samples, in the same form.
   */
  constructor(engine, numCodebooks, sampleRate, input, output) {
    Object.assign(this, { engine, numCodebooks, output });
    const { info } = engine;
    this._numCodes = bitsOf(info.codebooks, numCodebooks).length;
    this._channels = Array.from({ length: info.channelsCodedTogether }, () => ({
      in: new Resampler(sampleRate, info.sampleRate),
      out: new Resampler(info.sampleRate, sampleRate),
      filter: new HighPass(info.sampleRate, info.hopLength),
      rest: new Float32Array(0), // samples that do not fill a frame yet
      recorded: [],
    }));
    this._encoder = engine.initState("encoder", 1);
    this._decoder = engine.initState("decoder", 1);
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
    for (let i = 0; i < WARM_UP_STEPS; i++) {
      const [codes] = await engine.encodeStep(this._silence(), 1, this._encoder);
      await engine.decodeStep(codes, 1, engine.info.bits.length, this._decoder);
    }
  }

  async _push(blocks) {
    this._channels.forEach((channel, c) => {
      const block = channel.in.push(blocks[c]);
      channel.recorded.push(block);
      channel.rest = joined([channel.rest, block], Float32Array);
    });
    while (this._channels[0].rest.length >= this.engine.info.hopLength) await this._stepFiltered();
  }

  /** Code the next frame; at the end the rest of one. */
  async _stepFiltered() {
    const { hopLength } = this.engine.info;
    const frames = this._silence();
    this._channels.forEach((channel, c) => {
      const frame = new Float32Array(hopLength);
      const samples = channel.rest.subarray(0, hopLength);
      frame.set(samples);
      frames.set(channel.filter.push(frame).subarray(0, samples.length), c * hopLength);
      channel.rest = channel.rest.slice(hopLength);
    });
    await this._step(frames);
  }

  _silence() {
    return new Float32Array(this._channels.length * this.engine.info.hopLength);
  }

  /** Code a frame, channel after channel. */
  async _step(frame) {
    const { engine, _numCodes: numCodes } = this;
    const { bits, hopLength, sampleRate } = engine.info;
    const start = performance.now();
    const [all, encoder] = await engine.encodeStep(frame, 1, this._encoder);
    const codes = firstCodes(all, bits.length, numCodes);
    const between = performance.now();
    const [audio, decoder] = await engine.decodeStep(codes, 1, numCodes, this._decoder);
    const end = performance.now();
    this._encoder = encoder;
    this._decoder = decoder;
    this._codes.push(codes);
    this._seconds.encodeSeconds += (between - start) / 1000;
    this._seconds.decodeSeconds += (end - between) / 1000;
    if ((end - start) / 1000 > hopLength / sampleRate) this._late++;
    const output = this._channels.map((channel, c) =>
      channel.out.push(audio.slice(c * hopLength, (c + 1) * hopLength)),
    );
    const buffers = output.map(({ buffer }) => buffer);
    this.output.postMessage(output, buffers);
  }

  /** The recording after the input has ended: its channels at the model's rate, and its stream. */
  async finish() {
    await this._ended;
    await this._queue;
    const { info } = this.engine;
    const original = this._channels.map(({ recorded }) => joined(recorded, Float32Array));
    const { length } = original[0];
    if (this._channels[0].rest.length) await this._stepFiltered();
    const header = headerFor(info, original.length, this.numCodebooks, info.sampleRate, length);
    const numFrames = framesFor(info, header, length);
    while (this._codes.length < numFrames) await this._step(this._silence());
    const codes = joined(this._codes, Int32Array);
    const bytes = writeStream(header, codes, length, this.engine.context);
    return { bytes, original, seconds: this._seconds, late: this._late };
  }
}
