/** Whole signals to streams and back, with any engine. */

import { Codes, ComfortNoise } from "./codes.js";
import { joined } from "./core.js";
import { FormatError } from "./errors.js";
import { bitsOf, sumOf } from "./format/bitpack.js";
import { Coding, Gap, Header, Packet, scaled } from "./format/container.js";
import { encodePayload, PayloadDecoder } from "./format/payload.js";
import { PauseDetector } from "./pauses.js";
import { checkRate, isVariable, Planner } from "./rate.js";

const PACKET_SECONDS = 2;
const MAX_PAYLOAD = 2 ** 16;
// Parts of a coded file that the package decodes side by side, at least, if it is long enough.
const SIDE_BY_SIDE = 16;
const TOGETHER_SECONDS = 64; // of packets that are decoded side by side, all channels together
const MAX_SEGMENTS = 4; // of a packet: the context begins anew in each, which costs bits
// A lost packet holds the last frame for so long, fades out, and what follows it fades in again.
const HOLD_SECONDS = 0.02;
const FADE_SECONDS = 0.1;
const FADE_IN_SECONDS = 0.02;

/** Header of a stream of that many samples, with packets of about `PACKET_SECONDS`.
 *
 * @param rate see `rate.js`; an error if the model has no such rate.
 */
export function headerFor(info, channels, rate, originalSampleRate, numSamples) {
  checkRate(info, rate);
  const variable = isVariable(rate);
  const codebooks = info.codebooks.slice(0, variable ? Infinity : rate.codebooks);
  const channelsCodedTogether = Math.min(channels, info.channelsCodedTogether);
  const numGroups = Math.ceil(channels / channelsCodedTogether);
  // A code of two digits takes 32 bits at most, the number of codes 16, and a pause 8.
  const most = variable ? 32 * codebooks.length + 24 : sumOf(bitsOf(codebooks));
  const longest = Math.floor((8 * MAX_PAYLOAD - 8) / (numGroups * most));
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
    variable,
    pauses: variable,
    format: info.delay && framesPerPacket > 1 ? 2 : 1, // format 1 ends with the last sample
    segments: info.context ? segmentsFor(info, channels, framesPerPacket, numFrames) : 1,
  });
}

/** Frames of each packet of a stream, in which the end of the signal is complete after the delay of
 * the decoder: full packets that the signal fills, and a last one with what is left, maybe nothing.
 */
export function framesFor(info, header, length) {
  const { hopLength, format, framesPerPacket: full } = header;
  const tail = length && format > 1 ? info.delay : 0;
  const counts = [];
  let filled = Math.floor(length / (full * hopLength));
  let left = Math.ceil((length + tail) / hopLength);
  for (; filled > 0 || left > full; filled--) {
    counts.push(full);
    left -= full;
  }
  return [...counts, left];
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

/** Encode a signal to the bytes of a stream.
 *
 * @param engine the model.
 * @param audio one array per channel, at the model's rate.
 * @param header of the stream, from `headerFor`.
 * @param rate of it.
 * @param numSamples samples per channel at the original rate.
 * @param progress called with the share that is done.
 */
export function encode(engine, audio, header, rate, numSamples, progress = () => {}) {
  const planner = new Planner(engine, header, rate);
  const writer = new StreamWriter(header, engine.context);
  const write = (chosen) => {
    for (const codes of chosen) planner.spent(writer.push(codes), codes);
  };
  for (const block of analyze(engine, audio, header, progress)) write(planner.push(block));
  write(planner.finish());
  return writer.finish(numSamples);
}

/** The codes of each packet; if the stream is variable, with slopes and limits. */
function* analyze(engine, audio, header, progress) {
  const { hopLength, numGroups, numCodebooks, variable } = header;
  const inputs = inputsOf(engine.info, header);
  const filtered = audio.map((signal) => engine.highPass().whole(signal));
  const counts = framesFor(engine.info, header, audio[0].length);
  const pauses = new PauseDetector(engine.core, engine.info);
  let state = engine.initState("encoder", numGroups);
  let start = 0;
  for (const [number, frames] of counts.entries()) {
    const samples = hopLength * frames;
    const block = new Float32Array(inputs.length * samples); // padded with silence
    inputs.forEach((channel, i) => {
      block.set(filtered[channel].subarray(start, start + samples), i * samples);
    });
    let codes;
    let slopes = null;
    let limits = null;
    if (variable && frames) {
      [codes, slopes, state] = engine.analyzeStep(block, numGroups, state);
      limits = pauses.limits(block, numGroups);
    } else [codes, state] = engine.encodeStep(block, numGroups, numCodebooks, state);
    start += samples;
    progress((number + 1) / counts.length);
    yield { codes, slopes, limits };
  }
}

/** Writes the packets of a stream. */
export class StreamWriter {
  /**
   * @param header of the stream.
   * @param context the context model that it names, or null.
   */
  constructor(header, context) {
    Object.assign(this, { _header: header, _context: context, _packets: [] });
  }

  /** Write the codes of the next packet; the bits that it takes. */
  push(codes) {
    const [payload, coding] = encodePayload(codes, this._header, this._context);
    const sequence = this._packets.length % this._header.sequenceCount;
    this._packets.push(new Packet(sequence, codes.frames, payload, null, coding));
    return 8 * (this._header.headSize + payload.length);
  }

  /** The bytes of a stream of that many samples per channel at the original rate. */
  finish(numSamples) {
    this._packets.at(-1).numSamples = numSamples;
    return joined([this._header.toBytes(), ...this._packets.map((each) => each.toBytes())]);
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
export function decode(engine, { header, items }, limit, progress = () => {}) {
  checkModel(engine.info, header);
  const decoder = new StreamDecoder(engine, header, limit);
  let done = 0;
  for (const part of together(items, header)) {
    const report = () => progress(++done / items.length);
    if (part instanceof Gap) {
      decoder.lost(part.numPackets);
      report();
    } else decoder.push(part, report);
  }
  const numFrames = decoder.finish();
  const start = engine.info.delay + header.modelSamples(header.skip);
  const end = engine.info.delay + lengthOf(header, items, numFrames);
  return decoder.channels.map((blocks) => joined(blocks).slice(start, end));
}

/** Packets that follow one another, some seconds of them at a time, and the gaps between them. */
function* together(items, { channels, framesPerPacket, hopLength, sampleRate }) {
  const seconds = (channels * framesPerPacket * hopLength) / sampleRate;
  const most = Math.max(1, Math.floor(TOGETHER_SECONDS / seconds));
  for (let start = 0; start < items.length; ) {
    let end = start;
    while (items[end] instanceof Packet && end < start + most) end++;
    yield end > start ? items.slice(start, end) : items[end++];
    start = end;
  }
}

/** Decodes packets of a stream one after the other.
 *
 * Attributes: `channels`, for each a list of blocks of samples. They begin with the delay.
 */
class StreamDecoder {
  constructor(engine, header, limit) {
    const { bits } = engine.info;
    this._engine = engine;
    this._header = header;
    this._payloads = new PayloadDecoder(header, header.context ? engine.context : null);
    this._numCodes = bitsOf(header.codebooks, limit).length;
    this._inputs = inputsOf(engine.info, header);
    this._state = engine.initState("decoder", header.numGroups);
    this._last = new Codes(header.numGroups, bits.length, 1); // a lost frame is replaced by it
    this._noise = null; // while the sender is silent
    this._numFrames = 0;
    this._gain = 1;
    this._held = 0; // samples concealed in a row
    this.channels = Array.from({ length: header.channels }, () => [new Float32Array()]);
  }

  /** Decode packets that follow one another, and report each. */
  push(packets, report) {
    this._payloads.decode(packets).forEach((codes, i) => {
      if (packets[i].numFrames) this._pushOne(packets[i], codes);
      report();
    });
  }

  _pushOne(packet, codes) {
    this._noise = null;
    if (packet.coding === Coding.COMFORT_NOISE) {
      this._noise = new ComfortNoise(this._payloads.decodeNoise(packet), this._header.numSilent);
    }
    if (codes) this._play(codes);
    else this._conceal(packet.numFrames); // it depends on a lost one
  }

  /** Packets that did not arrive; after comfort noise they are silence that was not sent. */
  lost(numPackets) {
    if (numPackets) this._payloads.lost();
    for (let i = 0; i < numPackets; i++) {
      const codes = this._noise?.next();
      if (codes) this._play(codes);
      else this._conceal(this._header.framesPerPacket);
    }
  }

  /** Give out what is left; the number of frames before. */
  finish() {
    const rest = this._engine.flushStep(this._header.numGroups, this._state);
    const gain = Math.fround(this._gain);
    // Not faded: after a loss the gain stays where it is, for nothing follows.
    this._give(this._outputs(rest).map((channel) => channel.map((sample) => sample * gain)));
    return this._numFrames;
  }

  _play(codes) {
    const filled = this._header.pauses ? codes.withPausesFilled() : codes;
    const before = this._gain;
    this._held = 0;
    this._step(filled.first(this._numCodes), before < 1, (sample) =>
      clip(before + sample / this._header.sampleRate / FADE_IN_SECONDS, before, 1),
    );
  }

  _conceal(numFrames) {
    const { sampleRate, hopLength } = this._header;
    const [before, held] = [this._gain, this._held];
    this._held += numFrames * hopLength;
    this._step(this._last.frame(-1, numFrames), true, (sample) =>
      clip(1 - ((held + sample) / sampleRate - HOLD_SECONDS) / FADE_SECONDS, 0, before),
    );
  }

  /** Decode a block. If it fades, `gainAt` says the gain of a sample, counted from 1. */
  _step(codes, fades, gainAt) {
    let audio;
    [audio, this._state] = this._engine.decodeStep(codes, this._state);
    const outputs = this._outputs(audio);
    for (let i = 0; fades && i < outputs[0].length; i++) {
      this._gain = gainAt(i + 1);
      for (const channel of outputs) channel[i] *= Math.fround(this._gain); // as in float32
    }
    this._last = codes.frame(-1);
    this._numFrames += codes.frames;
    this._give(outputs);
  }

  /** Samples of each channel: the mean of what the model decoded it to. */
  _outputs(audio) {
    const length = audio.length / this._inputs.length;
    const own = this.channels.map(() => []);
    this._inputs.forEach((channel, i) => {
      own[channel].push(audio.subarray(i * length, (i + 1) * length));
    });
    return own.map(meanOf);
  }

  _give(outputs) {
    outputs.forEach((samples, channel) => this.channels[channel].push(samples));
  }
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

function meanOf([first, ...others]) {
  for (const other of others) first.forEach((_, i) => (first[i] += other[i]));
  return others.length ? first.map((sum) => sum / (others.length + 1)) : first;
}
