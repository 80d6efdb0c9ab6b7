/** A live session in the worker: microphone, encoder, decoder, loudspeaker, frame by frame.
 *
 * It has as many channels as the model codes together.
 */

import { Codes } from "./codes.js";
import { joined } from "./core.js";
import { sumOf } from "./format/bitpack.js";
import { Header } from "./format/container.js";
import { encodePayload } from "./format/payload.js";
import { Planner } from "./rate.js";
import { Resampler } from "./resample.js";
import { framesFor, headerFor, StreamWriter } from "./session.js";

export class Live {
  /**
   * @param engine the model.
   * @param rate see `rate.js`.
   * @param sampleRate of both ports.
   * @param input port that sends blocks of samples, an array per channel, and null after the last.
   * @param output port that takes blocks of decoded samples, in the same form.
   */
  constructor(engine, rate, sampleRate, input, output) {
    Object.assign(this, { engine, rate, output });
    const { info } = engine;
    const count = info.channelsCodedTogether;
    const file = headerFor(info, count, rate, info.sampleRate, 0);
    this._header = new Header({ ...file, framesPerPacket: 1, segments: 1, pauses: false });
    this._planner = new Planner(engine, this._header, rate, true);
    this._channels = Array.from({ length: count }, () => ({
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
    const { engine } = this;
    const { hopLength, sampleRate } = engine.info;
    const start = performance.now();
    const codes = this._encode(frame);
    const between = performance.now();
    let audio;
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

  /** Codes of a frame; those that are not sent are absent. */
  _encode(frame) {
    const { engine, _header: header } = this;
    let codes;
    if (!header.variable) {
      [codes, this._encoder] = engine.encodeStep(frame, 1, header.numCodebooks, this._encoder);
      return codes;
    }
    let slopes;
    [codes, slopes, this._encoder] = engine.analyzeStep(frame, 1, this._encoder);
    const [chosen] = this._planner.push({ codes, slopes });
    const [payload] = encodePayload(chosen, header, engine.context);
    this._planner.spent(8 * payload.length, chosen);
    return chosen;
  }

  /** The recording after the input has ended: its channels at the model's rate, and its stream. */
  async finish() {
    await this._ended;
    const { engine, rate } = this;
    const { info } = engine;
    const original = this._channels.map(({ recorded }) =>
      joined([new Float32Array(), ...recorded]),
    );
    const { length } = original[0];
    if (this._channels[0].rest.length) this._stepFiltered();
    const header = headerFor(info, original.length, rate, info.sampleRate, length);
    const counts = framesFor(info, header, length);
    while (this._codes.length < sumOf(counts)) this._step(this._silence());
    const nothing = new Codes(header.numGroups, header.bits.length, 0);
    const writer = new StreamWriter(header, engine.context);
    for (const count of counts) writer.push(Codes.joined(this._codes.splice(0, count), nothing));
    return { bytes: writer.finish(length), original, seconds: this._seconds, late: this._late };
  }
}
