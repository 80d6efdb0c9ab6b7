/** A model's graphs in onnxruntime: codes from audio, audio from codes, step by step.
 *
 * Channels are in groups of those that the model codes together, mostly one. Audio is flat, channel
 * after channel. Codes are flat in the order of the stream: by frame, then group, then code. The
 * state is a list of tensors, which only `graphs.json` describes.
 */

import * as ort from "./vendor/ort.wasm.bundle.min.mjs";
import { download, downloadJson } from "./download.js";
import { ContextModel, NO_CODE } from "./entropy/context.js";
import { CodecError } from "./errors.js";
import { toHex } from "./format/container.js";
import { bitsOf } from "./format/payload.js";

const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  int32: Int32Array,
  int64: BigInt64Array,
  bool: Uint8Array,
};

async function loadRuntime() {
  if (ort.env.wasm.wasmBinary) return;
  // More threads would need headers that not every server can send.
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  const file = new URL("vendor/ort-wasm-simd-threaded.wasm.gz", import.meta.url).href;
  ort.env.wasm.wasmBinary = await download(file);
}

export class Engine {
  /** Attributes: `info`, what must be known about the model, and `context`, its context model. */
  constructor(model, description, graphs, weights, context) {
    const { codec } = description;
    this._folder = model.folder;
    this._graphs = graphs;
    this._weights = weights;
    this._sessions = {};
    this.context = context;
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
    };
    /** Frames that the decoder needs after the last code to give out the delayed samples. */
    this.info.flushFrames = Math.ceil(this.info.delay / this.info.hopLength);
  }

  /** Load a model from the server.
   *
   * @param model from models.json.
   * @param progress called with the number of bytes received so far.
   */
  static async load(model, progress) {
    const { folder } = model;
    const [description, graphs, weights, context] = await Promise.all([
      downloadJson(`${folder}config.json`),
      downloadJson(`${folder}graphs.json`),
      download(`${folder}weights.safetensors`, progress),
      model.context ? download(`${folder}context.safetensors`) : null,
      loadRuntime(),
    ]);
    await checkDigest(weights, description.weights_sha256, `${folder}weights.safetensors`);
    if (graphs.weights_sha256 !== description.weights_sha256) {
      throw new CodecError(`${folder}graphs.json belongs to other weights: run aecodec export`);
    }
    return new Engine(
      model,
      description,
      graphs,
      weights,
      context && ContextModel.fromBytes(context),
    );
  }

  /** State at the beginning of a signal; `side` is "encoder" or "decoder". */
  initState(side, groups) {
    return this._graphs[side].states.map(({ type, shape, value }) => {
      const array = new ARRAYS[type](shape.reduce((a, b) => a * b, groups));
      array.fill(type === "int64" ? BigInt(value) : Number(value));
      return new ort.Tensor(type, array, [groups, ...shape]);
    });
  }

  /** Codes of all codebooks of the next frames, and the state after them. */
  async encodeStep(audio, groups, state) {
    const together = this.info.channelsCodedTogether;
    const channels = together === 1 ? [groups] : [groups, together];
    const length = audio.length / (groups * together);
    const input = new ort.Tensor("float32", audio, [...channels, length]);
    const [output, after] = await this._step("encoder", "audio", input, "codes", state);
    return [inStreamOrder(output), after];
  }

  /** Audio of the next frames, and the state after them.
   *
   * @param codes with `numCodes` codes in a frame and group, from the first one on.
   */
  async decodeStep(codes, groups, numCodes, state) {
    const input = this._asTensor(codes, groups, numCodes);
    const [output, after] = await this._step("decoder", "codes", input, "audio", state);
    return [output.data, after];
  }

  /** Codes of frames without any. */
  noCodes(groups, numFrames) {
    return new Int32Array(groups * this.info.bits.length * numFrames).fill(NO_CODE);
  }

  async _step(side, first, input, result, state) {
    const session = await this.prepare(side);
    const feeds = { [first]: input };
    const fetches = [result];
    state.forEach((tensor, i) => {
      feeds[`state_in_${i}`] = tensor;
      fetches.push(`state_out_${i}`);
    });
    const outputs = await session.run(feeds, fetches);
    return [outputs[result], state.map((_, i) => outputs[`state_out_${i}`])];
  }

  /** Load the graph of a side, "encoder" or "decoder", unless it is loaded. */
  prepare(side) {
    this._sessions[side] ??= this._create(side).catch((error) => {
      delete this._sessions[side]; // so that it is tried again
      throw error;
    });
    return this._sessions[side];
  }

  async _create(side) {
    const { file, sha256 } = this._graphs[side];
    const graph = await download(this._folder + file);
    await checkDigest(graph, sha256, this._folder + file);
    try {
      return await ort.InferenceSession.create(graph, {
        executionProviders: ["wasm"],
        externalData: [{ path: "weights.safetensors", data: this._weights }],
      });
    } catch (error) {
      throw new CodecError(`this browser cannot run ${file}: ${error.message.split("\n")[0]}`);
    }
  }

  _asTensor(codes, groups, numCodes) {
    const all = this.info.bits.length;
    const numFrames = codes.length / (groups * numCodes);
    const data = new BigInt64Array(groups * all * numFrames).fill(BigInt(NO_CODE));
    let position = 0;
    for (let frame = 0; frame < numFrames; frame++)
      for (let group = 0; group < groups; group++)
        for (let k = 0; k < numCodes; k++)
          data[(group * all + k) * numFrames + frame] = BigInt(codes[position++]);
    return new ort.Tensor("int64", data, [groups, all, numFrames]);
  }
}

function inStreamOrder({ data, dims: [groups, numCodes, numFrames] }) {
  const codes = new Int32Array(data.length);
  let position = 0;
  for (let frame = 0; frame < numFrames; frame++)
    for (let group = 0; group < groups; group++)
      for (let k = 0; k < numCodes; k++)
        codes[position++] = Number(data[(group * numCodes + k) * numFrames + frame]);
  return codes;
}

async function checkDigest(bytes, expected, name) {
  if (!globalThis.crypto?.subtle) return; // a page without https has no SHA-256
  const digest = toHex(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)));
  if (digest !== expected) throw new CodecError(`${name} is damaged: copy the model again`);
}
