/** Payloads of a stream: codes to the bytes of packets and back, plain or with a context model. */

import { FormatError } from "../errors.js";
import { Coding } from "../format/container.js";
import { packCodes, unpackCodes } from "../format/payload.js";
import { RangeDecoder, RangeEncoder } from "./range_coder.js";

/** The payload of codes, and how it is written: whatever is shorter.
 *
 * @param codes of the frames of a packet, in the order of the stream.
 * @param header of the stream.
 * @param context the context model that it names, or null.
 */
export function encodePayload(codes, header, context) {
  const plain = packCodes(codes, header.bitsPerCode);
  if (!header.context) return [plain, header.format === 1 ? null : Coding.PLAIN];
  const [coded] = encodeCodes(codes, header, context);
  return coded.length < plain.length ? [coded, Coding.CODED] : [plain, Coding.PLAIN];
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
      const codes = unpackCodes(payload, header.bitsPerCode, header.numCodes(numFrames));
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

const initStates = (header, context) =>
  Array.from({ length: header.channels }, () => context.initState());

function codeFrames(codes, header, context, states, digit) {
  const size = header.numCodes(1);
  for (let start = 0; start < codes.length; start += size) {
    context.codeFrame(states, codes.subarray(start, start + size), header.variable, digit);
  }
}
