/** How many codes the frames of a stream get: what `codec/rate` and `codec/session/plan.py` decide.
 *
 * A rate is `{mode: "constant", codebooks}`, the same number of codes in each frame;
 * `{mode: "average", bitrate}`, bits per second and channel; or `{mode: "quality", quality}`, 0 to 10
 * in steps of a tenth.
 */

import { NO_CODE } from "./codes.js";
import { joined } from "./core.js";
import { CodecError } from "./errors.js";
import { bitsOf, sumOf } from "./format/bitpack.js";

const STATE_SIZE = 9; // AEC_RATE_STATE
const LAMBDA = 1; // its place in the state
const SHARED_SECONDS = 64; // of a file, among which bits are shared, all channels together
const FIRST_RATIO = 0.85; // of coded to plain bits, of the core
const PAYLOAD_COST = 1; // bytes of a payload beside its codes
const END_SIZE = 8; // bytes of a file after its last packet
const UNLIMITED = 255; // codes of a frame
const QUALITY_STEPS = 10; // of one
const kilobits = (bits) => `${Number((bits / 1000).toPrecision(6))} kbit/s`;

export const isVariable = ({ mode }) => mode !== "constant";

/** Bits per second and channel of plain codes of the first codebooks. */
export function plainBitrate({ codebooks, sampleRate, hopLength, channelsCodedTogether }, count) {
  return (sumOf(bitsOf(codebooks, count)) * sampleRate) / hopLength / channelsCodedTogether;
}

/** Refuse a rate that a model has not. */
export function checkRate(info, rate) {
  const { mode, codebooks, bitrate, quality } = rate;
  const most = info.codebooks.length;
  if (mode === "constant") {
    if (!(Number.isInteger(codebooks) && codebooks >= 1 && codebooks <= most)) {
      throw new CodecError(`codebooks is ${codebooks}: this model has 1 to ${most}`);
    }
    return;
  }
  if (mode !== "average" && mode !== "quality") {
    throw new CodecError(`mode is ${mode}: give constant, average or quality`);
  }
  if (!info.context) {
    throw new CodecError(
      `${mode} needs a context model: fit one with aecodec fit-context, or choose a constant bitrate`,
    );
  }
  if (mode === "quality" && lambdaOf(info, quality) === undefined) {
    throw new CodecError(`quality is ${quality}: give 0 to 10 in steps of a tenth`);
  }
  const [lowest, highest] = [1, most].map((count) => plainBitrate(info, count));
  if (mode === "average" && !(bitrate >= lowest && bitrate <= highest)) {
    throw new CodecError(
      `bitrate is ${bitrate}: this model codes ${kilobits(lowest)} to ${kilobits(highest)} per channel`,
    );
  }
}

function lambdaOf({ lambdas }, quality) {
  const place = Math.round(quality * QUALITY_STEPS);
  if (!(Math.abs(quality * QUALITY_STEPS - place) < 1e-6)) return undefined;
  return lambdas[place] === null ? -Infinity : lambdas[place]; // JSON has no infinity
}

/** Slopes `[rows, frames, count]` of the weighted errors `[rows, count, frames]` of codes.
 *
 * @param audio `[rows, frames * hop]`.
 */
export function weightedSlopes(core, { rows, count, frames }, errors, audio, bits) {
  const [levels, weights] = [0, 1].map(() => new Float32Array(rows * frames));
  core.call(
    "aec_measure_frames",
    ...[audio.length / weights.length, audio, audio.length],
    ...[levels, levels.length, weights, weights.length],
  );
  const weighted = Float64Array.from(errors, (_, i) => {
    const [frame, k] = [Math.floor(i / count), i % count];
    const [row, t] = [Math.floor(frame / frames), frame % frames];
    return Math.fround(errors[(row * count + k) * frames + t] * weights[frame]);
  });
  const slopes = new Float64Array(weighted.length);
  const widths = Float64Array.from(bits);
  core.call(
    "aec_slopes",
    ...[weighted, weighted.length, widths, widths.length, slopes, slopes.length],
  );
  return slopes;
}

/** Chooses the codes of one packet after another.
 *
 * A block is `{codes, slopes, limits}`: all codes of a packet, their slopes (all are sent without),
 * and the most codes `[rows, frames]` of a frame, `UNLIMITED` without.
 */
export class Planner {
  /**
   * @param engine the model.
   * @param header of the stream, or of packets of one frame if it is live.
   * @param rate for which `checkRate` found nothing to refuse.
   * @param isLive whether packets do not wait for those after them.
   */
  constructor(engine, header, rate, isLive = false) {
    const { info } = engine;
    this._core = engine.core;
    this._header = header;
    this._isLive = isLive;
    this._waiting = [];
    this._wait = 0;
    this._lambda = null; // all codes are sent
    this._state = null; // of a rate control
    if (rate.mode === "quality") this._lambda = lambdaOf(info, rate.quality);
    if (rate.mode !== "average") return;
    const frameRate = info.sampleRate / info.hopLength;
    if (!isLive) {
      const together = (SHARED_SECONDS * frameRate) / header.channels;
      this._wait = Math.floor(together / header.framesPerPacket);
    }
    const size = this._core.result("aec_rate_size", frameRate, header.numGroups, info.bits.length);
    this._state = new Float64Array(isLive ? size : STATE_SIZE);
    const target = this._checked(rate.bitrate) / frameRate;
    this._call("aec_rate_init", target, frameRate, info.bits[0]);
    if (!isLive) this._spent(8 * (header.size + END_SIZE), 0, 0);
  }

  /** Blocks of packets that need not wait any longer, with absent codes marked.
   *
   * Say with `spent` what a packet took before the next one is taken.
   */
  *push(block) {
    this._waiting.push(block);
    while (this._waiting.length > this._wait) yield this._next();
  }

  *finish() {
    while (this._waiting.length) yield this._next();
  }

  /** Take into account the bits of a packet. */
  spent(bits, codes) {
    if (this._state) {
      this._spent(bits, codes.frames, codes.values.filter((code) => code !== NO_CODE).length);
    }
  }

  _next() {
    const block = this._waiting.shift();
    const { codes, slopes, limits } = block;
    if (!slopes) return codes;
    if (this._state) this._choose(block);
    const lambda = this._state ? this._state[LAMBDA] : this._lambda;
    const { count, frames, values } = codes;
    values.forEach((_, i) => {
      const k = Math.floor(i / frames) % count;
      const frame = Math.floor(i / frames / count) * frames + (i % frames);
      const isSent = slopes[frame * count + k] > lambda && k < (limits?.[frame] ?? UNLIMITED);
      if (!isSent) values[i] = NO_CODE;
    });
    return codes;
  }

  _choose(block) {
    const { count } = block.codes;
    const { numGroups } = this._header;
    const ahead = this._isLive ? [] : this._waiting.filter(({ slopes }) => slopes);
    const known = [block, ...ahead];
    const numFrames = sumOf(known.map(({ codes }) => codes.frames));
    // A packet of pauses alone changes nothing.
    const own = competing(block);
    const slopes = own.length ? joined([own, ...ahead.map(competing)]) : own;
    const name = this._isLive ? "aec_rate_follow" : "aec_rate_share";
    this._call(name, numGroups, count, numFrames, slopes, slopes.length);
  }

  _spent(bits, frames, numCodes) {
    this._call("aec_rate_spent", this._header.numGroups, frames, bits, numCodes);
  }

  _call(name, ...args) {
    this._core.call(name, ...args, this._state, this._state.length);
  }

  /** A bitrate, unless it is less than packets take that have one code for each frame. */
  _checked(bitrate) {
    const { framesPerPacket, numCodebooks, channels, sampleRate, hopLength } = this._header;
    const seconds = (framesPerPacket * hopLength) / sampleRate;
    const overhead = this._isLive ? 0 : this._header.headSize;
    const codes = (FIRST_RATIO * this._header.payloadSize(framesPerPacket)) / numCodebooks;
    const lowest = Math.ceil(((overhead + codes + PAYLOAD_COST) * 8) / seconds / channels);
    if (bitrate < lowest) {
      throw new CodecError(
        `bitrate ${kilobits(bitrate)} cannot be reached: ${overhead} bytes of overhead and a code for each frame take ${kilobits(lowest)}, give at least that`,
      );
    }
    return bitrate;
  }
}

/** Slopes of the frames of a block whose codes are not limited. */
function competing({ codes, slopes, limits }) {
  if (!limits?.some((limit) => limit < UNLIMITED)) return slopes;
  return slopes.filter((_, i) => limits[Math.floor(i / codes.count)] === UNLIMITED);
}
