/** A live session in the worker: microphone, encoder, decoder, loudspeaker, frame by frame.
 *
 * It has as many channels as the model codes together.
 */

import { Codes } from "./codes.js";
import { joined } from "./core.js";
import { sumOf } from "./format/bitpack.js";
import { Resampler } from "./resample.js";
import { framesFor, headerFor, writeStream } from "./session.js";

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
    this._channels = Array.from({ length: info.channelsCodedTogether }, () => ({
      in: new Resampler(sampleRate, info.sampleRate),
      out: new Resampler(info.sampleRate, sampleRate),
      filter: engine.highPass(),
      rest: new Float32Array(0), // samples that do not fill a frame yet
      recorded: [],
    }));
    this._encoder = engine.initState("encoder", 1);
    this._decoder = engine.initState("decoder", 1);
    this._codes = [];
    this._seconds = { encodeSeconds: 0, decodeSeconds: 0 };
    this._late = 0; // steps that took longer than a frame lasts
    this._ended = new Promise((resolve, reject) => {
      input.onmessage = ({ data }) => {
        try {
          if (data === null) resolve();
          else this._push(data);
        } catch (error) {
          reject(error);
        }
      };
    });
  }

  _push(blocks) {
    this._channels.forEach((channel, c) => {
      const block = channel.in.push(blocks[c]);
      channel.recorded.push(block);
      channel.rest = joined([channel.rest, block]);
    });
    while (this._channels[0].rest.length >= this.engine.info.hopLength) this._stepFiltered();
  }

  /** Code the next frame; at the end the rest of one. */
  _stepFiltered() {
    const { hopLength } = this.engine.info;
    const frames = this._silence();
    this._channels.forEach((channel, c) => {
      const frame = new Float32Array(hopLength);
      const samples = channel.rest.subarray(0, hopLength);
      frame.set(samples);
      frames.set(channel.filter.push(frame).subarray(0, samples.length), c * hopLength);
      channel.rest = channel.rest.slice(hopLength);
    });
    this._step(frames);
  }

  _silence() {
    return new Float32Array(this._channels.length * this.engine.info.hopLength);
  }

  /** Code a frame, channel after channel. */
  _step(frame) {
    const { engine, numCodebooks } = this;
    const { hopLength, sampleRate } = engine.info;
    const start = performance.now();
    let codes, audio;
    [codes, this._encoder] = engine.encodeStep(frame, 1, numCodebooks, this._encoder);
    const between = performance.now();
    [audio, this._decoder] = engine.decodeStep(codes, this._decoder);
    const end = performance.now();
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
    const { engine, numCodebooks } = this;
    const { info } = engine;
    const original = this._channels.map(({ recorded }) =>
      joined([new Float32Array(), ...recorded]),
    );
    const { length } = original[0];
    if (this._channels[0].rest.length) this._stepFiltered();
    const header = headerFor(info, original.length, numCodebooks, info.sampleRate, length);
    const counts = framesFor(info, header, length);
    while (this._codes.length < sumOf(counts)) this._step(this._silence());
    const nothing = new Codes(header.numGroups, header.bits.length, 0);
    const packets = counts.map((count) => Codes.joined(this._codes.splice(0, count), nothing));
    const bytes = writeStream(header, packets, length, engine.context);
    return { bytes, original, seconds: this._seconds, late: this._late };
  }
}
