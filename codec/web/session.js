/** Whole signals to streams and back, with any engine. */

import { fillPauses } from "./entropy/pauses.js";
import { encodePayload, PayloadDecoder } from "./entropy/payload.js";
import { FormatError } from "./errors.js";
import { Gap, Header, Packet, scaled } from "./format/container.js";
import { bitsOf, sumOf } from "./format/payload.js";
import { highPass } from "./highpass.js";

const PACKET_SECONDS = 2;
const MAX_PAYLOAD = 2 ** 16;
// Parts of a coded file that the package decodes side by side, at least, if it is long enough.
const SIDE_BY_SIDE = 16;
const MAX_SEGMENTS = 4; // of a packet: the context begins anew in each, which costs bits
// A lost packet holds the last frame for so long, fades out, and what follows it fades in again.
const HOLD_SECONDS = 0.02;
const FADE_SECONDS = 0.1;
const FADE_IN_SECONDS = 0.02;

/** The first `numCodes` codes of frames and groups that have `all`. */
export function firstCodes(codes, all, numCodes) {
  return all === numCodes ? codes : codes.filter((_, i) => i % all < numCodes);
}

/** Header of a stream of that many samples, with packets of about `PACKET_SECONDS`. */
export function headerFor(info, channels, numCodebooks, originalSampleRate, numSamples) {
  const codebooks = info.codebooks.slice(0, numCodebooks);
  const channelsCodedTogether = Math.min(channels, info.channelsCodedTogether);
  const numGroups = Math.ceil(channels / channelsCodedTogether);
  const longest = Math.floor((8 * MAX_PAYLOAD - 8) / (numGroups * sumOf(bitsOf(codebooks))));
  const wanted = Math.floor((PACKET_SECONDS * info.sampleRate) / info.hopLength);
  const framesPerPacket = Math.max(1, Math.min(wanted, longest));
  const modelSamples = scaled(numSamples, info.sampleRate, originalSampleRate);
  const numFrames = Math.ceil(modelSamples / info.hopLength);
  return new Header({
    channels,
    codebooks,
    channelsCodedTogether,
    framesPerPacket,
    sampleRate: info.sampleRate,
    originalSampleRate,
    hopLength: info.hopLength,
    fingerprint: info.fingerprint,
    context: info.context ?? "",
    format: info.delay && framesPerPacket > 1 ? 2 : 1, // format 1 ends with the last sample
    segments: info.context ? segmentsFor(info, channels, framesPerPacket, numFrames) : 1,
  });
}

/** Frames of a stream: the end of the signal is complete after the delay of the decoder. */
export function framesFor(info, header, length) {
  const tail = length && header.format > 1 ? info.delay : 0;
  return Math.ceil((length + tail) / header.hopLength);
}

/** Parts of a packet that are decoded side by side: several in short files, one in long ones. */
function segmentsFor(info, channels, framesPerPacket, numFrames) {
  if (!numFrames) return 1;
  const rows = channels * Math.max(1, Math.round(numFrames / framesPerPacket));
  const seconds = (framesPerPacket * info.hopLength) / info.sampleRate;
  const whole = Math.floor((seconds * MAX_SEGMENTS) / PACKET_SECONDS);
  return Math.max(1, Math.min(Math.ceil(SIDE_BY_SIDE / rows), whole, MAX_SEGMENTS));
}

/** Which channel of a stream each of the model's is: in a group that lacks some, the last again. */
function inputsOf({ channelsCodedTogether: size }, header) {
  const { channels, numGroups, channelsCodedTogether: together } = header;
  return Array.from({ length: numGroups * size }, (_, i) => {
    const first = Math.floor(i / size) * together;
    return Math.min(first + (i % size), first + together - 1, channels - 1);
  });
}

/** Encode a signal packet by packet, and return the codes.
 *
 * @param engine the model.
 * @param audio one array per channel, at the model's rate.
 * @param header of the stream.
 * @param progress called with the share that is done.
 */
export async function encode(engine, audio, header, progress = () => {}) {
  const { hopLength, framesPerPacket, numGroups } = header;
  const inputs = inputsOf(engine.info, header);
  const numFrames = framesFor(engine.info, header, audio[0].length);
  const filtered = audio.map((signal) => highPass(signal, header.sampleRate, hopLength));
  const codes = new Int32Array(header.numCodes(numFrames));
  let state = engine.initState("encoder", numGroups);
  for (let frame = 0; frame < numFrames; frame += framesPerPacket) {
    const samples = hopLength * Math.min(framesPerPacket, numFrames - frame);
    const block = new Float32Array(inputs.length * samples); // padded with silence
    inputs.forEach((channel, i) => {
      const start = frame * hopLength;
      block.set(filtered[channel].subarray(start, start + samples), i * samples);
    });
    let found;
    [found, state] = await engine.encodeStep(block, numGroups, state);
    codes.set(
      firstCodes(found, engine.info.bits.length, header.bits.length),
      header.numCodes(frame),
    );
    progress(Math.min(1, (frame + framesPerPacket) / numFrames));
  }
  return codes;
}

/** Bytes of a stream.
 *
 * @param header of the stream.
 * @param codes of all frames, with the codebooks of the header.
 * @param numSamples samples per channel at the original rate.
 * @param context the context model that the header names, or null.
 */
export function writeStream(header, codes, numSamples, context) {
  const pieces = [header.toBytes()];
  const full = header.numCodes(header.framesPerPacket);
  // Full packets, and a last one that is shorter than they are, and may be empty.
  for (let start = 0; ; start += full) {
    const part = codes.subarray(start, start + full);
    const isLast = part.length < full;
    const sequence = (pieces.length - 1) % header.sequenceCount;
    const numFrames = part.length / header.numCodes(1);
    const [payload, coding] = encodePayload(part, header, context);
    pieces.push(
      new Packet(sequence, numFrames, payload, isLast ? numSamples : null, coding).toBytes(),
    );
    if (isLast) return joined(pieces, Uint8Array);
  }
}

/** Check that a stream was made with a model. */
function checkModel(info, header) {
  const isOwn = ({ bits, perFrame }, k) =>
    bits === info.codebooks[k]?.bits && perFrame === info.codebooks[k].perFrame;
  const fits =
    header.sampleRate === info.sampleRate &&
    header.hopLength === info.hopLength &&
    header.codebooks.every(isOwn) &&
    header.channelsCodedTogether <= info.channelsCodedTogether;
  if (!fits) {
    throw new FormatError(
      "the header contradicts the model that it names: the stream is damaged or forged",
    );
  }
  if (header.context && header.context !== info.context) {
    throw new FormatError(
      `the stream was coded with context model ${header.context}, the model has ${info.context ?? "none"} here: start the page with aecodec web --model FOLDER`,
    );
  }
}

/** Decode a stream: one array per channel, at the model's rate. Lost packets are concealed.
 *
 * @param engine the model.
 * @param stream from `readStreams`.
 * @param limit most codebooks to use.
 * @param progress called with the share that is done.
 */
export async function decode(engine, { header, items }, limit, progress = () => {}) {
  checkModel(engine.info, header);
  const payloads = new PayloadDecoder(header, header.context ? engine.context : null);
  const { numGroups, hopLength } = header;
  const { bits, delay, flushFrames } = engine.info;
  const inputs = inputsOf(engine.info, header);
  const used = bitsOf(header.codebooks, limit).length;
  const blocks = [];
  let state = engine.initState("decoder", numGroups);
  let last = engine.noCodes(numGroups, 1); // what a lost frame is replaced by
  let lastCount = bits.length;
  let gain = 1;
  let held = 0; // samples concealed in a row

  /** Decode a block; `gainAt`, if given, says the gain of a sample by the seconds in the block. */
  async function step(codes, count, gainAt) {
    let audio;
    [audio, state] = await engine.decodeStep(codes, numGroups, count, state);
    const length = audio.length / inputs.length;
    const before = gain;
    for (let i = 0; gainAt && i < length; i++) {
      gain = gainAt((i + 1) / header.sampleRate, before);
      for (let n = 0; n < inputs.length; n++) audio[n * length + i] *= gain;
    }
    blocks.push(audio);
    return length;
  }

  async function conceal(numFrames) {
    const begin = held / header.sampleRate;
    const fadedOut = (seconds, before) =>
      clip(1 - (begin + seconds - HOLD_SECONDS) / FADE_SECONDS, 0, before);
    held += await step(repeated(last, numFrames), lastCount, fadedOut);
  }

  async function play(codes, count) {
    const fadedIn = (seconds, before) => clip(before + seconds / FADE_IN_SECONDS, before, 1);
    await step(codes, count, gain === 1 ? null : fadedIn);
    held = 0;
  }

  for (const [number, item] of items.entries()) {
    if (item instanceof Gap) {
      if (item.numPackets) payloads.lost();
      for (let i = 0; i < item.numPackets; i++) await conceal(header.framesPerPacket);
    } else if (item.numFrames) {
      const codes = payloads.next(item);
      if (codes === null) {
        await conceal(item.numFrames);
      } else {
        const filled = header.pauses ? fillPauses(codes, header) : codes;
        const kept = firstCodes(filled, header.bits.length, used);
        await play(kept, used);
        last = kept.slice(-numGroups * used);
        lastCount = used;
      }
    }
    progress((number + 1) / items.length);
  }
  const numFrames = sumOf(blocks.map((block) => block.length)) / (inputs.length * hopLength);
  if (flushFrames) {
    const nothing = engine.noCodes(numGroups, flushFrames);
    const [rest] = await engine.decodeStep(nothing, numGroups, bits.length, state);
    // Not faded: after a loss the gain stays where it is, for nothing follows.
    blocks.push(rest.map((sample) => sample * gain));
  }
  const start = delay + header.modelSamples(header.skip);
  return byChannel(blocks, inputs, start, delay + lengthOf(header, items, numFrames));
}

/** Samples at the model's rate, those to skip included. */
function lengthOf(header, items, numFrames) {
  const everything = numFrames * header.hopLength;
  const numSamples = items.at(-1)?.numSamples ?? null;
  if (numSamples === null) return everything;
  const wanted = header.modelSamples(header.skip) + header.modelSamples(numSamples);
  // Frames after the end of a cut may complete its last samples.
  if (numFrames > header.numFrames(numSamples + header.skip)) return Math.min(everything, wanted);
  return Math.min(everything, wanted, header.modelSamples(numSamples + header.skip));
}

function clip(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

function repeated(frame, count) {
  const codes = new Int32Array(frame.length * count);
  for (let i = 0; i < count; i++) codes.set(frame, i * frame.length);
  return codes;
}

/** The samples from `start` to `end` of each channel of blocks that follow one another. */
function byChannel(blocks, inputs, start, end) {
  const channels = []; // for each, what the model decoded it to
  inputs.forEach((channel, i) => {
    const parts = blocks.map((block) => {
      const length = block.length / inputs.length;
      return block.subarray(i * length, (i + 1) * length);
    });
    (channels[channel] ??= []).push(joined(parts, Float32Array).slice(start, end));
  });
  return channels.map(meanOf);
}

function meanOf([first, ...others]) {
  for (const other of others) first.forEach((_, i) => (first[i] += other[i]));
  return others.length ? first.map((sum) => sum / (others.length + 1)) : first;
}

/** Arrays one after the other. */
export function joined(parts, Type) {
  const all = new Type(sumOf(parts.map((part) => part.length)));
  let position = 0;
  for (const part of parts) {
    all.set(part, position);
    position += part.length;
  }
  return all;
}
