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
import { decode, encode, headerFor } from "./session.js";

let models; // what `page_files` of codec/cli/web.py lists
let engine = null; // the one that stays loaded
let live = null;

const tasks = {
  async models() {
    models ??= await downloadJson("models.json");
    return { models };
  },

  async load({ model }, report) {
    const { info } = await engineOf(model, report);
    return { info };
  },

  /** Audio to a stream and back. */
  async encode({ model, channels, sampleRate, rate }, report) {
    const { info } = await engineOf(model, report);
    const numSamples = channels[0].length;
    const header = headerFor(info, channels.length, rate, sampleRate, numSamples);
    const audio = channels.map((signal) => resample(signal, sampleRate, info.sampleRate));
    const start = performance.now();
    const encoding = (share) => report("Encoding", share);
    const bytes = encode(engine, audio, header, rate, numSamples, encoding);
    const encodeSeconds = (performance.now() - start) / 1000;
    return { ...(await decodeAll(bytes, Infinity, model, report)), bytes, encodeSeconds };
  },

  /** A stream to audio. */
  async decode({ bytes, limit, model }, report) {
    return decodeAll(bytes, limit, model, report);
  },

  /** Audio from one port is coded at once; what is decoded goes to the other. */
  async start({ model, rate, sampleRate, input, output }, report) {
    live = new Live(await engineOf(model, report), rate, sampleRate, input, output);
    return {};
  },

  /** End the live session: the recording, its stream, and what was decoded. */
  async stop(_, report) {
    const { bytes, original, seconds, late } = await live.finish();
    const { encodeSeconds, decodeSeconds } = seconds;
    const decoded = await decodeAll(bytes, Infinity, live.engine.info.key, report);
    live = null;
    return { ...decoded, bytes, recorded: original, late, encodeSeconds, decodeSeconds };
  },
};

/** Decode all streams of a file, with the model of this key if it is theirs. */
async function decodeAll(bytes, limit, key, report) {
  const streams = readStreams(bytes);
  const [{ header }] = streams;
  await engineOf(keyFor(header.fingerprint, key), report);
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

/** Key of the model of a stream: of several the preferred one, or the first. */
function keyFor(fingerprint, preferred) {
  const fitting = models.filter((each) => each.fingerprint === fingerprint);
  if (!fitting.length) {
    throw new CodecError(
      `the stream was made with model ${fingerprint}, which this page does not have: start it with aecodec web --model FOLDER`,
    );
  }
  return (fitting.find(({ key }) => key === preferred) ?? fitting[0]).key;
}

async function engineOf(key, report) {
  if (engine?.info.key !== key) {
    const model = models.find((each) => each.key === key);
    const loaded = (received) => report("Loading the model", Math.min(1, received / model.bytes));
    engine = await Engine.load(model, loaded);
  }
  return engine;
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
