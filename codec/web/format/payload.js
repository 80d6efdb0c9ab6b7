/** Payloads of a stream: codes to the bytes of packets and back, plain or with a context model. */

import { Codes } from "../codes.js";
import { FormatError } from "../errors.js";
import { bitsOf, pack, unpack } from "./bitpack.js";
import { Coding } from "./container.js";

/** The payload of codes, and how it is written: whatever is shorter. Packets are not chained.
 *
 * @param codes of the frames of a packet. In a variable stream they may be absent, and are never
 * written plain.
 * @param header of the stream.
 * @param context the context model that it names, or null.
 */
export function encodePayload(codes, header, context) {
  const plain = header.variable ? null : pack(codes.inOrder(), header.bits);
  if (!header.context) return [plain, header.format === 1 ? null : Coding.PLAIN];
  const { bytes } = context.encode(codes, header);
  if (plain && bytes.length >= plain.length) return [plain, Coding.PLAIN];
  // Zeros at its end, if it is too short for so many frames to be believed.
  const coded = new Uint8Array(Math.max(bytes.length, header.leastPayload(codes.frames)));
  coded.set(bytes);
  return [coded, Coding.CODED];
}

/** Codes of packets that follow one another. */
export class PayloadDecoder {
  /**
   * @param header of the stream.
   * @param context the context model that it names, or null.
   */
  constructor(header, context) {
    this._header = header;
    this._context = context;
    this._state = null;
  }

  /** A packet did not arrive: the next one must depend on no other. */
  lost() {
    this._state = null;
  }

  /** Codes of the next packets, decoded side by side; null for what depends on a lost packet. */
  decode(packets) {
    if (this._header.chained) return packets.map((packet) => this._next(packet));
    const isCoded = ({ coding }) => coding === Coding.CODED;
    const coded = packets.filter(isCoded);
    const found = coded.length ? this._decode(coded).codes : [];
    return packets.map((packet) => (isCoded(packet) ? found.shift() : this._alone(packet)));
  }

  /** Codes of a packet of comfort noise: of some frames, the last of which is its own. */
  decodeNoise({ payload, numFrames }) {
    const [frames, codebooks] = [(payload[0] >> 4) + 1, (payload[0] & 15) + 1];
    this._check(payload.length && numFrames === 1 && codebooks <= this._header.numCodebooks);
    const bits = bitsOf(this._header.codebooks, codebooks);
    return this._plain(payload.subarray(1), bits, frames);
  }

  _alone(packet) {
    if (packet.coding === Coding.COMFORT_NOISE) return this.decodeNoise(packet).frame(-1);
    if (packet.coding >= Coding.PLAIN_WITH_EARLIER) return this._lastFrame(packet);
    return this._plain(packet.payload, this._header.bits, packet.numFrames);
  }

  /** Codes of the own frame of a packet that also has the first codes of frames before it. */
  _lastFrame({ coding, payload, numFrames }) {
    const { codebooks, numCodebooks, numGroups, bits, variable } = this._header;
    const [earlier, newest] = [payload[0] >> 4, (payload[0] & 15) + 1];
    this._check(payload.length && numFrames === 1 && earlier && newest <= numCodebooks);
    // Of each frame, the oldest one first.
    const counts = Array.from({ length: earlier }, (_, i) =>
      Math.ceil((newest * (i + 1)) / earlier),
    );
    counts.push(numCodebooks);
    const content = payload.subarray(1);
    if (coding === Coding.CODED_WITH_EARLIER) {
      const packet = { payload: content, numFrames: counts.length };
      return this._decode([packet], null, variable ? null : counts).codes[0].frame(-1);
    }
    const widths = counts
      .map((count) => Array(numGroups).fill(bitsOf(codebooks, count)))
      .flat(2);
    const values = unpack(content, widths, widths.length);
    return Codes.fromOrder(numGroups, bits.length, values.slice(-numGroups * bits.length));
  }

  _plain(payload, bits, numFrames) {
    const { numGroups } = this._header;
    const values = unpack(payload, bits, numFrames * numGroups * bits.length);
    return Codes.fromOrder(numGroups, bits.length, values);
  }

  /** Codes of the next packet of a chained stream. */
  _next(packet) {
    if (packet.coding === Coding.PLAIN) {
      const codes = this._alone(packet);
      this._state = this._context.stateAfter(codes);
      return codes;
    }
    if (packet.coding === Coding.CODED) this._state = null;
    else if (this._state === null) return null;
    const { codes, state } = this._decode([packet], this._state);
    this._state = state;
    return codes[0];
  }

  _decode(packets, state = null, numCodebooks = null) {
    if (!this._context) {
      throw new FormatError(
        "the stream has coded packets but names no context model: it is forged",
      );
    }
    const [payloads, frames] = ["payload", "numFrames"].map((key) => packets.map((p) => p[key]));
    return this._context.decode(payloads, frames, this._header, state, numCodebooks);
  }

  _check(fits) {
    if (!fits) throw new FormatError("a packet does not fit the stream's header: it is forged");
  }
}
