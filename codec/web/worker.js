/** The model, in a thread of its own. Messages `{id, kind, ...}` are answered by
 * `{id, kind: "progress" | "done" | "error", ...}`; a live session runs over ports of its own.
 */

import { joined } from "./core.js";
import { downloadJson } from "./download.js";
import { Engine } from "./engine.js";
import { CodecError, FormatError, messageOf } from "./errors.js";
import { readStreams } from "./format/container.js";
import { Live } from "./live.js";
import { resample } from "./resample.js";
import { decode, encode, headerFor, writeStream } from "./session.js";

let models; // [{name, folder, fingerprint, bytes, context, codebooks, channelsCodedTogether}]
const engines = new Map(); // by fingerprint; one stays loaded
let live = null;

const tasks = {
  async models() {
    models ??= await downloadJson("models.json");
    return { models };
  },

  async load({ fingerprint }, report) {
    const { info } = await engineFor(fingerprint, report);
    return { info };
  },

  /** Audio to a stream and back. */
  async encode({ fingerprint, channels, sampleRate, numCodebooks }, report) {
    const engine = await engineFor(fingerprint, report);
    const { info } = engine;
    const numSamples = channels[0].length;
    const header = headerFor(info, channels.length, numCodebooks, sampleRate, numSamples);
    const audio = channels.map((signal) => resample(signal, sampleRate, info.sampleRate));
    const start = performance.now();
    const packets = encode(engine, audio, header, (share) => report("Encoding", share));
    const bytes = writeStream(header, packets, numSamples, engine.context);
    const encodeSeconds = (performance.now() - start) / 1000;
    return { ...(await decodeAll(bytes, numCodebooks, report)), bytes, encodeSeconds };
  },

  /** A stream to audio. */
  async decode({ bytes, limit }, report) {
    return decodeAll(bytes, limit, report);
  },

  /** Audio from one port is coded at once; what is decoded goes to the other. */
  async start({ fingerprint, numCodebooks, sampleRate, input, output }, report) {
    const engine = await engineFor(fingerprint, report);
    live = new Live(engine, numCodebooks, sampleRate, input, output);
    return {};
  },

  /** End the live session: the recording, its stream, and what was decoded. */
  async stop(_, report) {
    const { bytes, original, seconds, late } = await live.finish();
    live = null;
    const { encodeSeconds, decodeSeconds } = seconds;
    const decoded = await decodeAll(bytes, Infinity, report);
    return { ...decoded, bytes, recorded: original, late, encodeSeconds, decodeSeconds };
  },
};

/** Decode all streams of a file. */
async function decodeAll(bytes, limit, report) {
  const streams = readStreams(bytes);
  const [{ header }] = streams;
  const engine = await engineFor(header.fingerprint, report);
  if (streams.some((stream) => stream.header.channels !== header.channels)) {
    throw new FormatError(
      "the streams of the file have different numbers of channels: decode them apart",
    );
  }
  const start = performance.now();
  const parts = [];
  for (const [number, stream] of streams.entries()) {
    const done = (share) => report("Decoding", (number + share) / streams.length);
    parts.push(decode(engine, stream, limit, done));
  }
  return {
    channels: parts[0].map((_, c) => joined(parts.map((part) => part[c]))),
    header: { ...header },
    info: engine.info,
    damage: streams.find((stream) => stream.damage)?.damage ?? null,
    decodeSeconds: (performance.now() - start) / 1000,
  };
}

async function engineFor(fingerprint, report) {
  const model = models.find((each) => each.fingerprint === fingerprint);
  if (!model) {
    throw new CodecError(
      `the stream was made with model ${fingerprint}, which this page does not have: start it with aecodec web --model FOLDER`,
    );
  }
  if (!engines.has(fingerprint)) {
    const loaded = (received) => report("Loading the model", Math.min(1, received / model.bytes));
    const engine = await Engine.load(model, loaded);
    engines.clear();
    engines.set(fingerprint, engine);
  }
  return engines.get(fingerprint);
}

// One message after the other: models are loaded in between.
let queue = Promise.resolve();
onmessage = ({ data: { id, kind, ...details } }) => {
  const report = (what, share) => postMessage({ id, kind: "progress", what, share });
  queue = queue.then(async () => {
    try {
      if (kind !== "models") await tasks.models();
      postMessage({ id, kind: "done", ...(await tasks[kind](details, report)) });
    } catch (error) {
      if (!(error instanceof CodecError)) console.error(error);
      postMessage({ id, kind: "error", message: messageOf(error) });
    }
  });
};
