/** Payloads of a stream: codes to the bytes of packets and back, plain or with a context model. */

import { FormatError } from "../errors.js";
import { Coding } from "../format/container.js";
import { packCodes, unpackCodes } from "../format/payload.js";
import { RangeDecoder, RangeEncoder, TOTAL } from "./range_coder.js";

// Frequency with which a frame has codes if, and only if, the frame before it in its row has.
const STAYS = TOTAL - TOTAL / 64;

/** The payload of codes, and how it is written: whatever is shorter. Packets are not chained.
 *
 * @param codes of the frames of a packet, in the order of the stream. In a variable stream they may
 * be `NO_CODE`, and are never written plain.
 * @param header of the stream.
 * @param context the context model that it names, or null.
 */
export function encodePayload(codes, header, context) {
  if (header.variable) {
    return [padded(encodeCodes(codes, header, context)[0], codes, header), Coding.CODED];
  }
  const plain = packCodes(codes, header.bits);
  if (!header.context) return [plain, header.format === 1 ? null : Coding.PLAIN];
  const [coded] = encodeCodes(codes, header, context);
  if (coded.length >= plain.length) return [plain, Coding.PLAIN];
  return [padded(coded, codes, header), Coding.CODED];
}

/** A coded payload with zeros at its end, if it is too short for so many frames to be believed. */
function padded(coded, codes, header) {
  const least = header.leastPayload(codes.length / header.numCodes(1));
  if (coded.length >= least) return coded;
  const bytes = new Uint8Array(least);
  bytes.set(coded);
  return bytes;
}

/** Codes of one packet after another. */
export class PayloadDecoder {
  /**
   * @param header of the stream.
   * @param context the context model that it names, or null.
   */
  constructor(header, context) {
    this._header = header;
    this._context = context;
    this._states = null;
  }

  /** A packet did not arrive: the next one must depend on no other. */
  lost() {
    this._states = null;
  }

  /** Codes of the next packet; null if it depends on one that was lost. */
  next({ coding, payload, numFrames }) {
    const { _header: header, _context: context } = this;
    if (coding === null || coding === Coding.PLAIN) {
      const codes = unpackCodes(payload, header.bits, header.numCodes(numFrames));
      if (header.chained) [, this._states] = encodeCodes(codes, header, context);
      return codes;
    }
    if (!context)
      throw new FormatError(
        "the stream has coded packets but names no context model: it is forged",
      );
    if (coding === Coding.CODED) this._states = initStates(header, context);
    if (this._states === null) return null;
    const decoder = new RangeDecoder(payload);
    const codes = new Int32Array(header.numCodes(numFrames));
    codeFrames(codes, header, context, this._states, (ends) => {
      if (ends.length === 1) return 0; // nothing to choose, and nothing was coded
      const target = decoder.target();
      let digit = 0;
      while (ends[digit] <= target) digit++;
      const start = digit ? ends[digit - 1] : 0;
      decoder.consume(start, ends[digit] - start);
      return digit;
    });
    return codes;
  }
}

/** Bytes of codes, and the states after them. */
function encodeCodes(codes, header, context) {
  const encoder = new RangeEncoder();
  const states = initStates(header, context);
  codeFrames(codes.slice(), header, context, states, (ends, digit) => {
    if (ends.length > 1) {
      const start = digit ? ends[digit - 1] : 0;
      encoder.encode(start, ends[digit] - start);
    }
    return digit;
  });
  return [encoder.finish(), states];
}

/** States of the rows of a packet: the channels of its first segment, then of the next one. */
const initStates = ({ segments, channels }, context) =>
  Array.from({ length: segments * channels }, () => context.initState());

/** Code a packet in the order of the stream: first the first frames of all segments, and so on. */
function codeFrames(codes, header, context, states, digit) {
  const { channels, numCodebooks, segments } = header;
  const numFrames = codes.length / header.numCodes(1);
  const steps = Math.ceil(numFrames / segments);
  const present = states.map(() => true); // before the first frame of a row there were codes
  for (let step = 0; step < steps; step++) {
    const frames = []; // by row; the last segments have fewer frames than others, or none
    for (let start = 0; start + step < numFrames; start += steps) {
      for (let channel = 0; channel < channels; channel++) {
        const first = ((start + step) * channels + channel) * numCodebooks;
        frames.push({
          state: states[frames.length],
          codes: codes.subarray(first, first + numCodebooks),
          present: true,
        });
      }
    }
    if (header.pauses) {
      frames.forEach((frame, row) => {
        const ends = [present[row] ? TOTAL - STAYS : STAYS, TOTAL];
        present[row] = digit(ends, frame.codes[0] >= 0 ? 1 : 0) === 1;
        frame.present = present[row];
      });
    }
    context.codeFrame(frames, header.variable, digit);
  }
}
