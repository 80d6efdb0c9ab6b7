// What the page makes of streams: a list of tasks in JSON comes in, a list of answers goes out.
// The first argument is the address of the page's modules.

import { readFileSync } from "node:fs";

const load = (name) => import(new URL(name, process.argv[2]));
const { Gap, Header, fromHex, readStreams, toHex } = await load("format/container.js");
const { framesFor, headerFor, writeStream } = await load("session.js");
const { highPass } = await load("highpass.js");
const { fillPauses } = await load("entropy/pauses.js");
const { PayloadDecoder } = await load("entropy/payload.js");
const { ContextModel } = await load("entropy/context.js");
const { FormatError } = await load("errors.js");

const contextOf = (path) =>
  path ? ContextModel.fromBytes(new Uint8Array(readFileSync(path))) : null;

const tasks = {
  read: ({ data, context }) =>
    readStreams(fromHex(data)).map(({ header, items, damage }) => {
      const payloads = new PayloadDecoder(header, contextOf(context));
      const found = items.map((item) => {
        if (item instanceof Gap) {
          payloads.lost();
          return { lost: item.numPackets, bytes: item.numBytes };
        }
        const { sequence, numFrames, numSamples, coding } = item;
        const codes = payloads.next(item);
        const filled = codes && header.pauses ? fillPauses(codes, header) : codes;
        return {
          ...{ sequence, numFrames, numSamples, coding },
          codes: codes && [...codes],
          filled: filled && [...filled],
        };
      });
      return { header: { ...header }, items: found, damage };
    }),

  // Start and frequency of each digit of rows of frames of codes, in the order of coding.
  intervals: ({ context, rows, variable }) => {
    const model = contextOf(context);
    const states = rows.map(() => model.initState());
    const found = [];
    for (let t = 0; t < rows[0].length; t++) {
      const frames = rows.map((row, i) => {
        return { state: states[i], codes: Int32Array.from(row[t]), present: true };
      });
      model.codeFrame(frames, variable, (ends, known) => {
        const start = known ? ends[known - 1] : 0;
        found.push(start, ends[known] - start);
        return known;
      });
    }
    return found;
  },

  filter: ({ samples, sampleRate, hopLength }) => [
    ...highPass(Float32Array.from(samples), sampleRate, hopLength),
  ],

  plan: ({ info, channels, numSamples }) => {
    const all = info.codebooks.length;
    const header = headerFor(info, channels, all, info.sampleRate, numSamples);
    return [{ ...header }, framesFor(info, header, numSamples)];
  },

  write: ({ header, codes, numSamples, context }) =>
    toHex(writeStream(new Header(header), Int32Array.from(codes), numSamples, contextOf(context))),
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
