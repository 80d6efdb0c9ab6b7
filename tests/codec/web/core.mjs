// What the page computes with the core: a list of tasks in JSON comes in, one of answers goes out.
// The first argument is the address of the page's modules. Arrays are told by their digests.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

const load = (name) => import(new URL(name, process.argv[2]));
const { Codes } = await load("codes.js");
const { Core, ContextModel, Network, readTensors } = await load("core.js");
const { Engine } = await load("engine.js");
const { readStreams } = await load("format/container.js");
const { decode, encode, headerFor } = await load("session.js");

const bytesOf = (path) => new Uint8Array(readFileSync(path));
const floatsOf = (path) => new Float32Array(bytesOf(path).buffer);
const program = readFileSync(new URL("aecodec.wasm", process.argv[2]));

/** Digest of arrays one after the other. */
function digest(arrays) {
  const hash = createHash("sha256");
  for (const { buffer, byteOffset, byteLength } of arrays) {
    hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  return hash.digest("hex");
}

/** A context model of zeros, with two codes. */
function emptyContext(core, width, dilations) {
  const square = width * width; // of each product, weights and biases
  const counts = { past: [width, width], counts: [width, 1], context: [width, 1], inner: [1, 1] };
  Object.assign(counts, { hidden: [1, 1], first: [2, 2], second: [2, 2], entries: [2, 0] });
  dilations.forEach((_, i) => {
    counts[`taps_${i}`] = [2 * square, width];
    counts[`project_${i}`] = [square, width];
  });
  const tensors = { order: { values: Uint16Array.of(0, 1) } };
  for (const [name, [weights, biases]] of Object.entries(counts)) {
    tensors[name] = { values: new Int8Array(weights) };
    tensors[`${name}_bias`] = { values: new Int32Array(biases) };
  }
  const shape = { num_codebooks: 1, codebook_size: 2, entry_dim: 1, width, hidden: 1, dilations };
  return new ContextModel(core, shape, tensors);
}

async function engineOf({ folder, model, kernel }) {
  const read = (name) => bytesOf(`${folder}/${model.folder}${name}`);
  const description = JSON.parse(new TextDecoder().decode(read("config.json")));
  const context = model.context && read("context.safetensors");
  const core = await Core.load(program, kernel);
  return new Engine(core, model, description, read("weights.safetensors"), context);
}

const tasks = {
  // Codes, what an analysis tells, and audio of steps of some frames.
  async steps({ audio, frames, rows, ...named }) {
    const { _network: network, info } = await engineOf(named);
    const samples = floatsOf(audio);
    const count = info.codebooks.length;
    let [encoder, decoder] = ["encoder", "decoder"].map((side) => network.initState(side, rows));
    const found = { codes: [], errors: [], latent: [], audio: [] };
    const channels = rows * info.channelsCodedTogether;
    let start = 0;
    for (const each of frames) {
      const block = samples.slice(start, (start += each * info.hopLength * channels));
      const step = network.encode(block, rows, count, encoder, { analyze: true });
      const back = network.decode(step.codes, decoder);
      [encoder, decoder] = [step.state, back.state];
      found.codes.push(step.codes.values);
      found.errors.push(step.errors);
      found.latent.push(step.latent);
      found.audio.push(back.audio);
    }
    const digests = Object.entries(found).map(([name, arrays]) => [name, digest(arrays)]);
    return Object.fromEntries([...digests, ["states", digest([encoder, decoder])]]);
  },

  // A stream, or the error that there is none.
  async encode({ audio, channels = 1, rate, ...named }) {
    const engine = await engineOf(named);
    const samples = floatsOf(audio);
    const length = samples.length / channels;
    const rows = Array.from({ length: channels }, (_, c) =>
      samples.subarray(c * length, (c + 1) * length),
    );
    try {
      const header = headerFor(engine.info, channels, rate, engine.info.sampleRate, length);
      return digest([encode(engine, rows, header, rate, length)]);
    } catch (error) {
      return [error.constructor.name, error.message];
    }
  },

  async decode({ stream, limit, ...named }) {
    const engine = await engineOf(named);
    return readStreams(bytesOf(stream)).map((each) => {
      const channels = decode(engine, each, limit ?? Infinity);
      return { audio: digest(channels), samples: channels[0].length, damage: each.damage };
    });
  },

  async search({ context, candidates, errors, channels, frames, each, lambda }) {
    const model = ContextModel.fromBytes(await Core.load(program), bytesOf(context));
    const numCodebooks = candidates.length / (channels * frames * each);
    const shape = { channels, numCodebooks, segments: 1, variable: true, pauses: false };
    const given = [Int32Array.from(candidates), Float32Array.from(errors), each];
    return [...model.search(...given, shape, lambda)];
  },

  // Payloads of rows of codes, each a packet of its own.
  async payloads({ context, rows, codebooks, variable }) {
    const model = ContextModel.fromBytes(await Core.load(program), bytesOf(context));
    const shape = { segments: 1, variable, pauses: false };
    return rows.map((row) => {
      const codes = new Codes(1, codebooks, row.length / codebooks, Int32Array.from(row));
      return Buffer.from(model.encode(codes, shape).bytes).toString("hex");
    });
  },

  // Class and message of the error that a frame of codes gives.
  async error({ codes, ...named }) {
    const engine = await engineOf(named);
    const frame = new Codes(1, codes.length, 1, Int32Array.from(codes));
    try {
      engine.decodeStep(frame, engine.initState("decoder", 1));
    } catch (error) {
      return [error.constructor.name, error.message];
    }
    return null;
  },

  // What becomes of sizes whose products have more bits than an address: errors, or messages.
  async sizes({ codec, weights }) {
    const core = await Core.load(program);
    const [sizes, most] = [Uint32Array.of(1, 65_536, 65_536), new Float32Array(65_536)];
    const floats = [new Float32Array(1), 1, most, most.length, most, most.length];
    const beam = core.result(
      ...["aec_beam_create", sizes, Uint32Array.of(1), 1, ...floats, new Uint32Array(1)],
    );
    const context = emptyContext(core, 4, [1]);
    const packets = Uint32Array.of(1, 100_000, 1, 0, 1, 0, 0);
    const nothing = [null, 0];
    const search = core.result(
      ...["aec_search_codes", context._model, packets, 2 ** 32 - 100_000],
      ...[...nothing, ...nothing, 0.1, ...nothing, ...context._room(64)],
    );
    const makers = [
      () => emptyContext(core, 16, Array(4096).fill(65_536)),
      () => new Network(core, codec, readTensors(bytesOf(weights))),
      () => new Network(core, { ...codec, strides: [16_384, 64, 16_384, 1] }, {}),
    ];
    return [beam, search, ...makers.map(messageOf)];
  },

  // Whether a context model works in memory of its own after there was none for more rows.
  async room() {
    const core = await Core.load(program);
    const context = emptyContext(core, 4, [1]);
    context._room(200);
    core.allocate = () => {
      throw new Error("no memory");
    };
    const message = messageOf(() => context._room(1_000));
    delete core.allocate;
    const needed = core.result("aec_context_scratch_size", context._model, 1);
    return [message, context._room(1)[1] === needed];
  },
};

function messageOf(make) {
  try {
    make();
  } catch (error) {
    return error.message;
  }
  return null;
}

const answers = [];
for (const { kind, ...task } of JSON.parse(readFileSync(0, "utf8"))) {
  answers.push(await tasks[kind](task));
}
process.stdout.write(JSON.stringify(answers));
