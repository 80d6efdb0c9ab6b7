/** A model of the page: codes from audio, audio from codes, step by step.
 *
 * Channels are in groups of those that the model codes together, mostly one. Audio is flat, channel
 * after channel. A state is a value.
 */

import { Codes } from "./codes.js";
import { ContextModel, Core, Network, readTensors } from "./core.js";
import { download, downloadJson } from "./download.js";
import { CodecError } from "./errors.js";
import { bitsOf } from "./format/bitpack.js";
import { toHex } from "./format/container.js";
import { HighPass } from "./highpass.js";
import { weightedSlopes } from "./rate.js";

export class Engine {
  /** Attributes: `core`; `info`, what must be known about the model; `context`, its context model.
   *
   * @param core in which it is made.
   * @param model from `models.json`.
   * @param description content of `config.json`.
   * @param weights bytes of `weights.safetensors`, with 8 bits.
   * @param context bytes of `context.safetensors`, or null.
   */
  constructor(core, model, description, weights, context) {
    const { codec } = description;
    this.core = core;
    this._network = new Network(core, codec, readTensors(weights));
    this.context = context && ContextModel.fromBytes(core, context);
    this.info = {
      name: description.name,
      fingerprint: description.fingerprint,
      sampleRate: codec.sample_rate,
      hopLength: codec.strides.reduce((a, b) => a * b, 1),
      codebooks: model.codebooks,
      bits: bitsOf(model.codebooks),
      channelsCodedTogether: model.channelsCodedTogether,
      delay: description.delay,
      context: model.context,
      key: model.key,
      lambdas: model.lambdas,
    };
    /** Frames that the decoder needs after the last code to give out the delayed samples. */
    this.info.flushFrames = Math.ceil(this.info.delay / this.info.hopLength);
  }

  /** Load a model from the server.
   *
   * @param model from `models.json`.
   * @param progress called with the number of bytes received so far.
   */
  static async load(model, progress) {
    const { folder } = model;
    const [program, description, weights, context] = await Promise.all([
      download(new URL("aecodec.wasm", import.meta.url).href),
      downloadJson(`${folder}config.json`),
      download(`${folder}weights.safetensors`, progress),
      model.context ? download(`${folder}context.safetensors`) : null,
    ]);
    await checkDigest(weights, description.weights_sha256, `${folder}weights.safetensors`);
    return new Engine(await Core.load(program), model, description, weights, context);
  }

  /** The filter of a channel before it is coded. */
  highPass() {
    return new HighPass(this.core, this.info.sampleRate, this.info.hopLength);
  }

  /** State at the beginning of a signal; `side` is "encoder" or "decoder". */
  initState(side, groups) {
    return this._network.initState(side, groups);
  }

  /** Codes of the first codebooks of the next frames, and the state after them. */
  encodeStep(audio, groups, numCodebooks, state) {
    const found = this._network.encode(audio, groups, numCodebooks, state);
    return [found.codes, found.state];
  }

  /** All codes of the next frames, their slopes `[groups, frames, codes]`, and the state after. */
  analyzeStep(audio, groups, state) {
    const { bits } = this.info;
    const found = this._network.encode(audio, groups, bits.length, state, { analyze: true });
    return [found.codes, weightedSlopes(this.core, found.codes, found.errors, audio, bits), found.state];
  }

  /** Audio of the next frames, and the state after them. */
  decodeStep(codes, state) {
    const found = this._network.decode(codes, state);
    return [found.audio, found.state];
  }

  /** Audio after the last codes: that of the delay, and padding. */
  flushStep(groups, state) {
    const { bits, flushFrames } = this.info;
    return this.decodeStep(new Codes(groups, bits.length, flushFrames), state)[0];
  }
}

async function checkDigest(bytes, expected, name) {
  if (!globalThis.crypto?.subtle) return; // a page without https has no SHA-256
  const digest = toHex(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)));
  if (digest !== expected) throw new CodecError(`${name} is damaged: copy the model again`);
}
