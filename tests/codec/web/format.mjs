// What the page makes of streams: a list of tasks in JSON comes in, a list of answers goes out.
// The first argument is the address of the page's modules.

import { readFileSync } from "node:fs";

const load = (name) => import(new URL(name, process.argv[2]));
const { Codes } = await load("codes.js");
const { ContextModel, Core } = await load("core.js");
const { Gap, Header, fromHex, readStreams, toHex } = await load("format/container.js");
const { PayloadDecoder } = await load("format/payload.js");
const { framesFor, headerFor, StreamWriter } = await load("session.js");
const { HighPass } = await load("highpass.js");
const { FormatError } = await load("errors.js");

const core = await Core.load(readFileSync(new URL("aecodec.wasm", process.argv[2])));
const contexts = new Map(); // by path
function contextOf(path) {
  if (path && !contexts.has(path)) {
    contexts.set(path, ContextModel.fromBytes(core, new Uint8Array(readFileSync(path))));
  }
  return path ? contexts.get(path) : null;
}

const tasks = {
  read: ({ data, context }) =>
    readStreams(fromHex(data)).map(({ header, items, damage }) => {
      const payloads = new PayloadDecoder(header, contextOf(context));
      const found = items.map((item) => {
        if (item instanceof Gap) {
          payloads.lost();
          return { lost: item.numPackets, bytes: item.numBytes, silence: item.isSilence };
        }
        const { sequence, numFrames, numSamples, coding } = item;
        const [codes] = payloads.decode([item]);
        const filled = codes && header.pauses ? codes.withPausesFilled() : codes;
        return {
          ...{ sequence, numFrames, numSamples, coding },
          codes: codes && [...codes.inOrder()],
          filled: filled && [...filled.inOrder()],
        };
      });
      return { header: { ...header }, items: found, damage };
    }),

  filter: ({ samples, sampleRate, hopLength }) => [
    ...new HighPass(core, sampleRate, hopLength).whole(Float32Array.from(samples)),
  ],

  plan: ({ info, channels, numSamples }) => {
    const rate = { mode: "constant", codebooks: info.codebooks.length };
    const header = headerFor(info, channels, rate, info.sampleRate, numSamples);
    return [{ ...header }, framesFor(info, header, numSamples)];
  },

  write: ({ header: fields, codes, numSamples, context }) => {
    const header = new Header(fields);
    const full = header.numCodes(header.framesPerPacket);
    const writer = new StreamWriter(header, contextOf(context));
    for (let start = 0; start <= codes.length; start += full) {
      const own = Int32Array.from(codes.slice(start, start + full));
      writer.push(Codes.fromOrder(header.numGroups, header.bits.length, own));
    }
    return toHex(writer.finish(numSamples));
  },
};

const answers = JSON.parse(readFileSync(0, "utf8")).map(({ kind, ...task }) => {
  try {
    return tasks[kind](task);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return { error: error.message };
  }
});
process.stdout.write(JSON.stringify(answers));
