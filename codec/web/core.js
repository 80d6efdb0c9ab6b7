/** The core in C (`codec/core`) as WebAssembly: arrays in, arrays out.
 *
 * `codec/core/include/aecodec.h` describes every function. The last dimension of an array varies
 * fastest. A state is an array of bytes.
 */

import { Codes } from "./codes.js";
import { CodecError, FormatError } from "./errors.js";

const INTERFACE = 5; // AEC_INTERFACE
const MOST_LEVELS = 8;
const MOST_UNITS = 16;
const TYPES = { F32: 0, I8: 1 }; // of a network's tensors
const CONTEXT_FORMAT = 1;

const REASONS = {
  [-1]: "sizes of arrays that do not fit the model",
  [-2]: "not enough memory for the model: close other pages",
  [-3]: "no such kernel",
  [-4]: "a code is beyond its codebook",
  [-5]: "the order of the context model's codes does not have each code once",
  [-6]: "a sum of the context model could be too large: fit it again",
  [-7]: "the weights do not fit config.json: copy the model again",
};

/** The library, with memory of its own. What is made in it lasts as long as it. */
export class Core {
  /** Load `aecodec.wasm`.
   *
   * @param bytes its content.
   * @param kernel name of the kernel to use, the fastest one if empty.
   */
  static async load(bytes, kernel = "") {
    const core = new Core();
    const variable = new TextEncoder().encode(kernel && `AECODEC_KERNEL=${kernel}\0`);
    const view = () => new DataView(core._exports.memory.buffer);
    const system = {
      environ_sizes_get(count, size) {
        view().setUint32(count, kernel ? 1 : 0, true);
        view().setUint32(size, variable.length, true);
        return 0;
      },
      environ_get(addresses, values) {
        if (kernel) view().setUint32(addresses, values, true);
        new Uint8Array(core._exports.memory.buffer).set(variable, values);
        return 0;
      },
      proc_exit(status) {
        throw new Error(`the core has ended with status ${status}`);
      },
    };
    const imports = { wasi_snapshot_preview1: system };
    core._exports = (await WebAssembly.instantiate(bytes, imports)).instance.exports;
    core._exports._initialize();
    if (core.result("aec_interface") !== INTERFACE) {
      throw new CodecError("aecodec.wasm is of another version than the page: copy the page again");
    }
    return core;
  }

  /** Call a function that returns an error.
   *
   * @param args numbers, null, and arrays, which it may change: it is given the address of a copy,
   * the same one for the same array, and what it leaves there is copied back.
   */
  call(name, ...args) {
    const error = this.result(name, ...args);
    if (error) throw new CodecError(`${REASONS[error]} (${name})`);
  }

  /** What a function returns. */
  result(name, ...args) {
    const { memory, free } = this._exports;
    const addresses = new Map();
    try {
      for (const each of args) {
        if (ArrayBuffer.isView(each) && !addresses.has(each)) addresses.set(each, this.keep(each));
      }
      const found = this._exports[name](...args.map((each) => addresses.get(each) ?? each));
      for (const [array, address] of addresses) bytesOf(array).set(at(memory, array, address));
      return found;
    } finally {
      for (const address of addresses.values()) free(address);
    }
  }

  /** Address of a copy of an array. */
  keep(array) {
    const address = this.allocate(array.byteLength);
    at(this._exports.memory, array, address).set(bytesOf(array));
    return address;
  }

  /** Address of so many bytes. */
  allocate(size) {
    const address = this._exports.malloc(Math.max(1, size)) >>> 0;
    if (!address) throw new CodecError(`not enough memory for ${size} bytes: use a shorter file`);
    return address;
  }

  release(address) {
    this._exports.free(address);
  }
}

const bytesOf = ({ buffer, byteOffset, byteLength }) =>
  new Uint8Array(buffer, byteOffset, byteLength);

/** Memory of the size of an array. */
const at = ({ buffer }, { byteLength }, address) => new Uint8Array(buffer, address, byteLength);

/** A model: audio to codes, and codes to audio. Rows are signals that are coded on their own. */
export class Network {
  /**
   * @param core to run it.
   * @param codec the table of this name in `config.json`.
   * @param tensors from `readTensors`, of weights with 8 bits.
   */
  constructor(core, codec, tensors) {
    this._core = core;
    this._codec = codec;
    this._hop = codec.strides.reduce((a, b) => a * b, 1);
    const kept = Object.entries(tensors).map(([name, { type, values }]) => [
      core.keep(new TextEncoder().encode(`${name}\0`)),
      TYPES[type] ?? -1,
      core.keep(values),
      values.length,
    ]);
    const model = new Uint32Array(1);
    const entries = Uint32Array.from(kept.flat());
    core.call("aec_model_create", shapeOf(codec), entries, kept.length, model);
    for (const [name, , values] of kept) [name, values].forEach((each) => core.release(each));
    const coder = new Uint32Array(1);
    core.call("aec_coder_create", model[0], coder);
    [this._model, this._coder] = [model[0], coder[0]];
  }

  /** State before any audio, of `side` "encoder" or "decoder". */
  initState(side, rows) {
    const size = this._core.result(`aec_${side}_state_size`, this._model);
    const state = new Uint8Array(rows * size);
    this._core.call(`aec_${side}_init`, this._model, state, state.length);
    return state;
  }

  /** Encode the next frames.
   *
   * @param audio `[rows, channels, frames * hop]`.
   * @param numCodebooks the first ones.
   * @returns codes, the state after them, and, if they are wanted, the errors that each codebook
   * leaves, as the codes, and the latent `[rows, frames, latent_dim]`.
   */
  encode(audio, rows, numCodebooks, state, { analyze = false } = {}) {
    const { channels, latent_dim: dim } = this._codec;
    const frames = audio.length / (rows * channels * this._hop);
    const codes = new BigInt64Array(rows * numCodebooks * frames);
    const errors = analyze ? new Float32Array(codes.length) : null;
    const latent = analyze ? new Float32Array(rows * frames * dim) : null;
    const after = state.slice();
    this._core.call(
      "aec_encode",
      ...[this._coder, rows, frames, numCodebooks, audio, audio.length],
      ...[after, after, after.length, codes, codes.length],
      ...[errors, latent, latent?.length ?? 0],
    );
    const found = new Codes(rows, numCodebooks, frames, Int32Array.from(codes, Number));
    return { codes: found, state: after, errors, latent };
  }

  /** Decode the next frames: audio `[rows, channels, frames * hop]`, and the state after it. */
  decode({ rows, count, frames, values }, state) {
    const codes = BigInt64Array.from(values, BigInt);
    const audio = new Float32Array(rows * this._codec.channels * frames * this._hop);
    const after = state.slice();
    this._core.call(
      "aec_decode",
      ...[this._coder, rows, frames, count, codes, codes.length],
      ...[after, after, after.length, audio, audio.length],
    );
    return { audio, state: after };
  }
}

/** `aec_config`. */
function shapeOf(codec) {
  const padded = (values, count, missing = 0) =>
    Array.from({ length: count }, (_, i) => values[i] ?? missing);
  const levels = (values) => padded(values, MOST_LEVELS);
  const units = (values) => padded(values, MOST_UNITS);
  const sides = [codec.encoder_dilations, codec.decoder_dilations];
  const { decoder_fine_dilations: fine } = codec;
  const deepest = Math.max(fine.length, ...sides.flat().map((each) => each.length));
  if (codec.strides.length > MOST_LEVELS || deepest > MOST_UNITS || codec.bottleneck === "vae") {
    throw new CodecError("the page cannot run models of this shape: use aecodec");
  }
  return Int32Array.from(
    [
      [codec.sample_rate, codec.channels, codec.lapped_transform, codec.kernel_size],
      [codec.latent_dim, codec.num_codebooks, codec.codebook_size, codec.codebook_dim],
      [codec.bottleneck === "fsq", codec.strides.length],
      [codec.strides, codec.encoder_channels, codec.decoder_channels].map(levels),
      sides.map((each) => levels(each.map(({ length }) => length))),
      sides.map((each) => padded(each, MOST_LEVELS, []).map(units)),
      [codec.decoder_fine_stride, codec.decoder_fine_channels, fine.length, units(fine)],
    ].flat(3),
    Number,
  );
}

/** How likely each code is, given the codes before it, and the range coder: codes to bytes. */
export class ContextModel {
  /** The model in a file `context.safetensors`. */
  static fromBytes(core, bytes) {
    const tensors = readTensors(bytes);
    const { format, shape } = JSON.parse(new TextDecoder().decode(tensors.meta.values));
    if (format !== CONTEXT_FORMAT) {
      throw new FormatError(
        `the context model has format ${format}, this page reads ${CONTEXT_FORMAT}: use a newer aecodec`,
      );
    }
    return new ContextModel(core, shape, tensors);
  }

  constructor(core, shape, tensors) {
    this._core = core;
    const dilations = Uint32Array.from(shape.dilations);
    const layers = shape.dilations.flatMap((_, i) => [`taps_${i}`, `project_${i}`]);
    const products = ["past", "counts", "context", "inner", "hidden", "first", "second", ...layers];
    const sizes = ["num_codebooks", "codebook_size", "entry_dim", "width", "hidden"];
    const model = new Uint32Array(1);
    const arrays = [
      dilations,
      joined([...products, "entries"].map((name) => tensors[name].values)),
      joined(products.map((name) => tensors[`${name}_bias`].values)),
      tensors.order.values,
      new BigInt64Array(products.length),
    ];
    core.call(
      "aec_context_create",
      Uint32Array.from(sizes, (name) => shape[name]),
      ...arrays.flatMap((each) => [each, each.length]),
      model,
    );
    [this._model] = model;
    this._scratch = { address: 0, size: 0 };
  }

  /** State of so many sequences before their first frame. */
  initState(rows) {
    return new Uint8Array(rows * this._core.result("aec_context_state_size", this._model));
  }

  /** State after frames whose codes are known, a sequence in each row. */
  stateAfter({ rows, count, frames, values }) {
    const state = this.initState(rows);
    this._core.call(
      "aec_context_advance",
      ...[this._model, rows, count, frames, values, values.length],
      ...[state, state.length, ...this._room(1)],
    );
    return state;
  }

  /** Encode a packet: its bytes, and the state after it.
   *
   * @param codes a row for each channel.
   * @param shape `{segments, variable, pauses}`, such as a header.
   * @param state after the packet before; none if null.
   */
  encode({ rows: channels, count, frames, values }, shape, state = null) {
    const rows = channels * shape.segments;
    const packets = packetsOf({ ...shape, channels, numCodebooks: count }, 1, frames);
    const after = state?.slice() ?? this.initState(rows);
    const bytes = new Uint8Array(this._core.result("aec_packet_capacity", packets));
    const length = new Uint32Array(1);
    this._core.call(
      "aec_encode_packets",
      ...[this._model, packets, values, values.length, after, after.length],
      ...[bytes, bytes.length, length, 1, null, 0, ...this._room(rows)],
    );
    return { bytes: bytes.slice(0, length[0]), state: after };
  }

  /** Decode packets side by side: the codes of each, and the state after them.
   *
   * @param payloads the bytes of each, at least one.
   * @param numFrames of each.
   * @param shape `{channels, numCodebooks, segments, variable, pauses}`, such as a header.
   * @param state after the packets before; none if null.
   * @param numCodebooks of each frame; all if null.
   */
  decode(payloads, numFrames, shape, state = null, numCodebooks = null) {
    const longest = Math.max(...numFrames);
    const rows = shape.channels * shape.segments;
    const size = shape.channels * shape.numCodebooks;
    const after = state?.slice() ?? this.initState(payloads.length * rows);
    const codes = new Int32Array(payloads.length * size * longest);
    const arrays = [
      joined(payloads),
      Uint32Array.from(payloads, ({ length }) => length),
      Uint32Array.from(numFrames),
      Uint32Array.from(numCodebooks ?? Array(longest).fill(shape.numCodebooks)),
      ...[after, codes],
    ];
    this._core.call(
      "aec_decode_packets",
      ...[this._model, packetsOf(shape, payloads.length, longest)],
      ...[...arrays.flatMap((each) => [each, each.length]), ...this._room(rows)],
    );
    const found = numFrames.map((frames, n) => {
      const own = codes.subarray(n * size * longest, (n + 1) * size * longest);
      const kept = own.filter((_, i) => i % longest < frames);
      return new Codes(shape.channels, shape.numCodebooks, frames, kept);
    });
    return { codes: found, state: after };
  }

  /** The index of the candidate of each frame `[channels, frames]` with the least error and bits.
   *
   * @param candidates `[channels, frames, candidates, codes]`.
   * @param errors `[channels, frames, candidates]`.
   * @param lambda of a bit.
   */
  search(candidates, errors, numCandidates, shape, lambda) {
    const chosen = new Uint32Array(errors.length / numCandidates);
    const packets = packetsOf(shape, 1, chosen.length / shape.channels);
    this._core.call(
      "aec_search_codes",
      ...[this._model, packets, numCandidates, candidates, candidates.length],
      ...[errors, errors.length, lambda, chosen, chosen.length],
      ...this._room(shape.channels + numCandidates),
    );
    return chosen;
  }

  /** Address and size of memory to work in, for so many rows of a packet. */
  _room(rows) {
    const size = this._core.result("aec_context_scratch_size", this._model, rows);
    if (size > this._scratch.size) {
      this._core.release(this._scratch.address);
      this._scratch = { address: 0, size: 0 }; // should there be no memory
      this._scratch = { address: this._core.allocate(size), size };
    }
    return [this._scratch.address, this._scratch.size];
  }
}

/** `aec_packets`. */
function packetsOf({ channels, numCodebooks, segments, variable, pauses }, numPackets, numFrames) {
  return Uint32Array.of(numPackets, channels, numCodebooks, numFrames, segments, variable, pauses);
}

/** Arrays of one type one after the other. */
export function joined(parts) {
  const all = new parts[0].constructor(parts.reduce((sum, { length }) => sum + length, 0));
  let position = 0;
  for (const part of parts) {
    all.set(part, position);
    position += part.length;
  }
  return all;
}

const ARRAYS = {
  F32: Float32Array,
  I32: Int32Array,
  U16: Uint16Array,
  U8: Uint8Array,
  I8: Int8Array,
};

/** The tensors of a file in the format of safetensors, by name: `{type, values}`. */
export function readTensors(bytes) {
  const size = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const table = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + size)));
  delete table.__metadata__;
  return Object.fromEntries(
    Object.entries(table).map(([name, { dtype, data_offsets: place }]) => {
      const [start, end] = place.map((offset) => 8 + size + offset);
      return [name, { type: dtype, values: new ARRAYS[dtype](bytes.slice(start, end).buffer) }];
    }),
  );
}
