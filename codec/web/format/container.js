/** The `.codes` stream: `Header`, `Packet`, `readStreams`. docs/format.md describes every byte.
 *
 * Nothing here trusts its input.
 */

import { FormatError } from "../errors.js";
import { crc32 } from "./crc32.js";
import { bitsOf, packedSize, sumOf } from "./bitpack.js";

const MAGIC = [0x41, 0x45, 0x43, 0x44]; // "AECD"
const SYNC = 0xae; // starts a packet of format 1, plus one if it is the last
const SYNC_CODED = 0xa0; // of formats 2 and 3, plus one if it is the last, plus two per `Coding`
const FLAGS = { chained: 1, variable: 2, pauses: 4, dtx: 8 }; // of the header
const HEADER_SIZE = 44;
const MORE_SIZE = 12; // of a header of formats 2 and 3
const TABLE_START = 52; // of a header of format 3
const MAX_CODES = 255; // of a frame and group
const END_SIZE = 8;
const MAX_PAYLOAD = 2 ** 16;
const MAX_PACKET_SECONDS = 10;
const MAX_SKIP_SECONDS = 60;
const MAX_SEGMENTS = 8;
const MAX_EARLIER = 512; // bytes per channel of codes of earlier frames, or of comfort noise
const NOISE_SECONDS = 1; // for which a decoder plays the noise of a packet
// Concealment may last this many times as long as what arrived, and some seconds more.
const MAX_CONCEALED = 2;
const MAX_CONCEALED_SECONDS = 10;
// The same for what left no bytes behind, in a whole file and all channels together.
const MAX_UNTRACED_SECONDS = 20;
// Frames of a channel that a byte of a packet may stand for, in the mean of a file.
const MAX_FRAMES_PER_BYTE = 128;

/** How the codes of a packet of formats 2 and 3 are written: see docs/format.md. */
export const Coding = {
  PLAIN: 0,
  CODED: 1,
  CHAINED: 2,
  PLAIN_WITH_EARLIER: 3,
  CODED_WITH_EARLIER: 4,
  COMFORT_NOISE: 5,
};

export const toHex = (bytes) =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

export const fromHex = (text) =>
  Uint8Array.from(text.match(/../g) ?? [], (digits) => parseInt(digits, 16));

/** ceil(a * b / c), exact for products beyond 2^53. */
export function scaled(a, b, c) {
  return Number((BigInt(a) * BigInt(b) + BigInt(c) - 1n) / BigInt(c));
}

const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const plural = (count) => `${count} packet${count === 1 ? "" : "s"}`;
const are = (count) => (count === 1 ? "is" : "are");

const OPTIONAL_FIELDS = {
  context: "",
  skip: 0,
  format: 1,
  chained: false,
  variable: false,
  segments: 1,
  pauses: false,
  dtx: false,
  channelsCodedTogether: 1,
};

/** What a decoder must know before the first packet. */
export class Header {
  /** Attributes have the names and meanings of docs/format.md; `context` is hexadecimal, or "".
   *
   * `codebooks` are `{bits, perFrame}`, and `bits` those of each code of a frame and group.
   */
  constructor(fields) {
    Object.assign(this, OPTIONAL_FIELDS, fields);
    const { codebooks, framesPerPacket, sampleRate, originalSampleRate, hopLength } = this;
    const { format, context, skip, chained, variable, segments, pauses, dtx } = this;
    this.bits = bitsOf(codebooks);
    const needed = context || skip || dtx ? 2 : 1;
    this.format = this.hasSimpleCodes ? Math.max(Math.min(format, 2), needed) : 3;
    const numCodes = this.bits.length;
    const possible = ({ bits, perFrame }) => bits >= 1 && bits <= 16 && perFrame >= 1;
    if (!(numCodes >= 1 && numCodes <= MAX_CODES && codebooks.every(possible))) {
      throw new FormatError(
        `the header says ${codebooks.length} codebooks with ${numCodes} codes of ${[...new Set(this.bits)]} bits: there must be 1 to ${MAX_CODES} of 1 to 16 bits, some of each codebook`,
      );
    }
    for (const [name, high] of [
      ["channels", 255],
      ["channelsCodedTogether", Math.min(16, this.channels)],
      ["framesPerPacket", 0xffff],
      ["sampleRate", 1_000_000],
      ["originalSampleRate", 192_000],
      ["hopLength", 2 ** 16],
      ["segments", MAX_SEGMENTS],
    ]) {
      const value = this[name];
      if (!(value >= 1 && value <= high)) {
        throw new FormatError(`the header says ${name} ${value}: it must lie in 1..${high}`);
      }
    }
    const size = this.maxPayload(framesPerPacket);
    for (const [isWrong, reason] of [
      [
        skip > MAX_SKIP_SECONDS * originalSampleRate,
        `skip ${skip}: it may be ${MAX_SKIP_SECONDS} seconds at most`,
      ],
      [
        context && this.format === 3,
        "a context model, which is for codebooks of one size, one code per frame, and channels on their own",
      ],
      [(chained || variable) && !context, "chained or variable packets without a context model"],
      [segments > 1 && (chained || !context), "segments of packets that are chained or plain"],
      [pauses && (chained || !variable), "pauses in a stream that is chained or not variable"],
      [dtx && !this.canHaveEarlier, "silence left out in a stream that is no call"],
      [
        framesPerPacket * hopLength > MAX_PACKET_SECONDS * sampleRate,
        `packets of ${framesPerPacket} frames: they may last ${MAX_PACKET_SECONDS} seconds at most`,
      ],
      [
        size > MAX_PAYLOAD - (this.format > 1),
        `packets of ${size} bytes, the limit is ${MAX_PAYLOAD}`,
      ],
    ]) {
      if (isWrong) throw new FormatError(`the header says ${reason}`);
    }
  }

  get size() {
    return headerSize(this.format, this.numCodebooks);
  }

  get numCodebooks() {
    return this.codebooks.length;
  }

  /** Whether formats 1 and 2 can hold the codes. */
  get hasSimpleCodes() {
    const [{ bits } = {}] = this.codebooks;
    const alike = this.codebooks.every((each) => each.bits === bits && each.perFrame === 1);
    return alike && this.channelsCodedTogether === 1;
  }

  /** Groups of channels that share their codes; the last one may have fewer channels. */
  get numGroups() {
    return Math.ceil(this.channels / this.channelsCodedTogether);
  }

  /** Number of sequence numbers, after which they begin again at 0. */
  get sequenceCount() {
    return this.format > 1 ? 2 ** 16 : 2 ** 8;
  }

  /** Most packets in a row that may be left out after one of comfort noise. */
  get numSilent() {
    return this.dtx ? Math.round((NOISE_SECONDS * this.sampleRate) / this.hopLength) : 0;
  }

  /** Whether packets may also have codes of earlier frames. */
  get canHaveEarlier() {
    const single = this.format > 1 && this.framesPerPacket === 1 && this.segments === 1;
    return single && !this.chained && !this.pauses;
  }

  /** Bytes of a packet before its payload. */
  get headSize() {
    return this.format > 1 ? 11 : 8;
  }

  /** Codes of that many frames, of all groups and codebooks. */
  numCodes(numFrames) {
    return numFrames * this.numGroups * this.bits.length;
  }

  /** Bytes of the plain codes of that many frames. */
  payloadSize(numFrames) {
    return packedSize(this.bits, this.numCodes(numFrames));
  }

  /** Most bytes that codes of earlier frames may add to a payload. */
  get maxEarlier() {
    return MAX_EARLIER * this.numGroups * Math.max(...this.codebooks.map((each) => each.perFrame));
  }

  /** Most bytes that the codes of that many frames may take. */
  maxPayload(numFrames) {
    if (this.variable) {
      // A code of two digits takes 32 bits at most, the number of codes 16, and a pause a byte.
      const most = 4 * this.numCodebooks + 2 + (this.pauses ? 1 : 0);
      return numFrames * this.channels * most;
    }
    return this.payloadSize(numFrames);
  }

  /** Fewest bytes in which that many frames are coded: see `MAX_FRAMES_PER_BYTE`. */
  leastPayload(numFrames) {
    const least = Math.ceil((numFrames * this.channels) / MAX_FRAMES_PER_BYTE);
    return Math.max(0, least - this.headSize);
  }

  /** Samples at the model's rate for a number of samples at the original rate. */
  modelSamples(numSamples) {
    return scaled(numSamples, this.sampleRate, this.originalSampleRate);
  }

  /** Frames for a number of samples at the original rate. */
  numFrames(numSamples) {
    return Math.ceil(this.modelSamples(numSamples) / this.hopLength);
  }

  toBytes() {
    const bytes = new Uint8Array(this.size);
    const view = viewOf(bytes);
    bytes.set(MAGIC);
    bytes.set(
      [
        this.format << 4,
        sumOf(Object.entries(FLAGS).map(([name, flag]) => (this[name] ? flag : 0))),
        this.channels,
        this.numCodebooks,
        this.format === 3 ? this.channelsCodedTogether : this.bits[0],
        this.context ? this.segments : 0,
      ],
      4,
    );
    view.setUint16(10, this.framesPerPacket, true);
    view.setUint32(12, this.sampleRate, true);
    view.setUint32(16, this.originalSampleRate, true);
    view.setUint32(20, this.hopLength, true);
    bytes.set(fromHex(this.fingerprint), 24);
    if (this.format > 1) {
      bytes.set(fromHex(this.context), 40);
      view.setUint32(48, this.skip, true);
    }
    if (this.format === 3) {
      const table = this.codebooks.flatMap(({ bits, perFrame }) => [bits, perFrame]);
      bytes.set(table, TABLE_START);
    }
    const end = this.size - 4;
    view.setUint32(end, crc32(bytes.subarray(0, end)), true);
    return bytes;
  }

  /** The header at the beginning of `bytes`. */
  static fromBytes(bytes) {
    if (!startsStream(bytes)) {
      throw new FormatError("not a .codes stream: it does not start with 'AECD'");
    }
    const format = bytes[4] >> 4;
    const size = headerSize(format, bytes[7]);
    if (bytes.length < size) {
      throw new FormatError(`the stream ends inside its header, after ${bytes.length} bytes`);
    }
    if (!(format >= 1 && format <= 3)) {
      throw new FormatError(
        `the stream has format ${format}.${bytes[4] & 15}, this page reads formats 1 to 3: use a newer aecodec`,
      );
    }
    const view = viewOf(bytes);
    if (crc32(bytes.subarray(0, size - 4)) !== view.getUint32(size - 4, true)) {
      throw new FormatError("the header of the stream is damaged: get the file again");
    }
    let context = format > 1 ? toHex(bytes.subarray(40, 48)) : "";
    if (/^0*$/.test(context)) context = "";
    const flags = bytes[5];
    const known = Object.entries(FLAGS).filter(([name]) => context || name === "dtx");
    if (flags & ~(format > 1 ? sumOf(known.map(([, flag]) => flag)) : 0)) {
      throw new FormatError(
        `the header has flags ${flags} that this page does not know: use a newer aecodec`,
      );
    }
    const codebooks = Array.from({ length: bytes[7] }, (_, k) => {
      const [bits, perFrame] = format === 3 ? bytes.subarray(TABLE_START + 2 * k) : [bytes[8], 1];
      return { bits, perFrame };
    });
    const header = new Header({
      ...Object.fromEntries(known.map(([name, flag]) => [name, Boolean(flags & flag)])),
      format,
      context,
      segments: context ? Math.max(1, bytes[9]) : 1,
      channels: bytes[6],
      codebooks,
      channelsCodedTogether: format === 3 ? bytes[8] : 1,
      framesPerPacket: view.getUint16(10, true),
      sampleRate: view.getUint32(12, true),
      originalSampleRate: view.getUint32(16, true),
      hopLength: view.getUint32(20, true),
      fingerprint: toHex(bytes.subarray(24, 40)),
      skip: format > 1 ? view.getUint32(48, true) : 0,
    });
    if (format === 3 && (bytes[9] || header.format !== 3)) {
      throw new FormatError("the header has format 3 without need, or fields that are not known");
    }
    return header;
  }
}

/** Bytes of a header of a format; those of an unknown one count as format 1. */
function headerSize(format, numCodebooks = 0) {
  const more = format === 2 || format === 3 ? MORE_SIZE : 0;
  return HEADER_SIZE + more + (format === 3 ? 2 * numCodebooks : 0);
}

/** Whether bytes begin as a stream does. */
export function startsStream(bytes) {
  return bytes.length > 0 && MAGIC.every((byte, i) => i >= bytes.length || bytes[i] === byte);
}

/** Whether bytes begin with a header whose checksum is right. */
function startsHeader(bytes) {
  const size = headerSize(bytes[4] >> 4, bytes[7]);
  if (bytes.length < size || !startsStream(bytes)) return false;
  return crc32(bytes.subarray(0, size - 4)) === viewOf(bytes).getUint32(size - 4, true);
}

/** Some frames of codes; the last packet of a stream also says how long the audio was. */
export class Packet {
  /**
   * @param sequence number of the packet, modulo `Header.sequenceCount`.
   * @param numFrames number of frames inside.
   * @param payload bytes of their codes.
   * @param numSamples in the last packet, samples per channel at the original rate, else null.
   * @param coding one of `Coding`; null in format 1.
   */
  constructor(sequence, numFrames, payload, numSamples = null, coding = null) {
    Object.assign(this, { sequence, numFrames, payload, numSamples, coding });
  }

  toBytes() {
    const isLast = this.numSamples !== null;
    const plain = this.coding === null;
    const start = plain ? 8 : 11;
    const bytes = new Uint8Array(start + this.payload.length + (isLast ? END_SIZE : 0));
    const view = viewOf(bytes);
    bytes[0] = (plain ? SYNC : SYNC_CODED + 2 * this.coding) + isLast;
    if (plain) {
      bytes[1] = this.sequence;
      view.setUint16(2, this.numFrames, true);
    } else {
      view.setUint16(1, this.sequence, true);
      view.setUint16(3, this.numFrames, true);
      view.setUint16(5, this.payload.length, true);
    }
    bytes.set(this.payload, start);
    if (isLast) view.setBigUint64(bytes.length - END_SIZE, BigInt(this.numSamples), true);
    view.setUint32(start - 4, checksum(bytes, start), true);
    return bytes;
  }
}

/** A place where packets are damaged or missing, or silence was not sent. */
export class Gap {
  constructor(numPackets, numBytes, isSilence = false) {
    Object.assign(this, { numPackets, numBytes, isSilence });
  }
}

const checksum = (packet, start) =>
  crc32(packet.subarray(start), crc32(packet.subarray(0, start - 4)));

/** Coding, and whether a packet is the last, by its first byte; undefined if none starts so. */
function kindOf(byte, format) {
  const kind = byte - (format > 1 ? SYNC_CODED : SYNC);
  if (kind < 0 || kind >= (format > 1 ? 12 : 2)) return undefined;
  return { coding: format > 1 ? kind >> 1 : null, isLast: kind % 2 === 1 };
}

/** The streams that a file holds, one after the other: `[{header, items, damage}]`.
 *
 * `items` are packets and gaps. `damage` is one line about what is wrong, or null. Bytes that belong
 * to no stream are damage of the stream before them, or else of the first one.
 */
export function readStreams(bytes) {
  const streams = [];
  const claims = new Claims();
  let { header, skipped, problem } = seekHeader(bytes);
  if (!header) throw new FormatError(problem);
  let rest = bytes.subarray(skipped);
  while (header) {
    const { items, end } = readPackets(rest.subarray(header.size), header);
    rest = rest.subarray(header.size + end);
    claims.count(header, items);
    const damage = [damageOf(header, items), unread(skipped, problem)];
    const stream = { header, items };
    ({ header, skipped, problem } = seekHeader(rest));
    rest = rest.subarray(skipped);
    damage.push(unread(skipped, problem));
    streams.push({ ...stream, damage: damage.filter(Boolean).join("; ") || null });
    skipped = 0; // it is part of the damage of one stream
  }
  return streams;
}

const unread = (count, problem) => count && `${count} bytes belong to no stream: ${problem}`;

/** The next header, the number of bytes before it, and why they are none. */
function seekHeader(bytes) {
  let problem = "";
  for (let skipped = 0; ; skipped++) {
    // From the second byte on, only where a header may start.
    if (skipped) skipped = nextMagic(bytes, skipped);
    try {
      return { header: Header.fromBytes(bytes.subarray(skipped)), skipped, problem };
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      problem ||= error.message;
    }
    if (skipped >= bytes.length) return { header: null, skipped: bytes.length, problem };
  }
}

/** Where "AECD" comes next, or the end. */
function nextMagic(bytes, start) {
  let place = bytes.indexOf(MAGIC[0], start);
  while (place >= 0 && !startsStream(bytes.subarray(place))) {
    place = bytes.indexOf(MAGIC[0], place + 1);
  }
  return place < 0 ? bytes.length : place;
}

/** How much audio a file claims to hold, which a forged one claims without limit. */
class Claims {
  constructor() {
    this._bytes = 0;
    this._frames = 0; // of each channel
    this._arrived = 0; // seconds of each channel
    this._untraced = 0;
  }

  /** Take the items of a stream into account; an error if they are too much for its bytes. */
  count({ channels, framesPerPacket, headSize, hopLength, sampleRate }, items) {
    for (const item of items) {
      let size = item.numBytes;
      let frames = item.numPackets * framesPerPacket * channels;
      if (item instanceof Packet) {
        const ends = item.numSamples === null ? 0 : END_SIZE;
        size = headSize + item.payload.length + ends;
        frames = item.numFrames * channels;
        this._arrived += (frames * hopLength) / sampleRate;
      } else if (!item.isSilence) {
        const untraced = Math.max(0, frames - MAX_FRAMES_PER_BYTE * size);
        frames -= untraced;
        this._untraced += (untraced * hopLength) / sampleRate;
      }
      this._bytes += size;
      this._frames += frames;
      if (this._frames > MAX_FRAMES_PER_BYTE * this._bytes) {
        throw new FormatError(
          `packets of ${this._bytes} bytes claim ${this._frames} frames: the file is forged, get it again`,
        );
      }
      if (this._untraced > MAX_UNTRACED_SECONDS + MAX_CONCEALED * this._arrived) {
        throw new FormatError(
          `${Math.round(this._untraced)} seconds are missing without a trace: the file is too damaged, get it again`,
        );
      }
    }
  }
}

/** Packets and gaps that follow a header, and where they end. */
function readPackets(bytes, header) {
  const view = viewOf(bytes);
  const items = [];
  let position = 0;
  let expected = 0; // sequence number of the next packet, not reduced
  let skipped = 0;
  let silent = 0; // packets that may be left out after the last one
  let wasted = 0; // bytes checksummed in vain
  let foundBytes = 0;
  let foundPackets = 0;

  /** Whether a packet or a header may start with a byte. */
  const mayStart = (byte) => byte === MAGIC[0] || kindOf(byte, header.format) !== undefined;

  /** Whether a packet of format 2 or 3 may have a payload of that size. */
  function mayHave(coding, size, numFrames) {
    if (coding === Coding.COMFORT_NOISE) {
      return header.dtx && size <= header.channels + header.maxEarlier;
    }
    const hasEarlier = coding >= Coding.PLAIN_WITH_EARLIER;
    if (size > header.maxPayload(numFrames) + (hasEarlier ? header.maxEarlier : 0)) return false;
    if (hasEarlier && !header.canHaveEarlier) return false;
    if (coding === Coding.CHAINED && !header.chained) return false;
    return ![Coding.PLAIN, Coding.PLAIN_WITH_EARLIER].includes(coding) || !header.variable;
  }

  function sizeAt() {
    const kind = kindOf(bytes[position], header.format);
    if (!kind) return 0;
    const numFrames = view.getUint16(position + (header.format > 1 ? 3 : 2), true);
    let size = header.payloadSize(numFrames);
    if (header.format > 1) {
      size = view.getUint16(position + 5, true);
      if (!mayHave(kind.coding, size, numFrames)) return 0;
    }
    const full = header.framesPerPacket;
    if (numFrames > full || (numFrames < full && !kind.isLast)) return 0;
    return header.headSize + size + (kind.isLast ? END_SIZE : 0);
  }

  function packetAt(size) {
    const start = header.headSize;
    const packet = bytes.subarray(position, position + size);
    const intact =
      packet.length === size &&
      checksum(packet, start) === view.getUint32(position + start - 4, true);
    if (!intact) {
      wasted += size;
      // A file that was forged to waste time.
      if (wasted > 64 * bytes.length + 2 ** 20) {
        throw new FormatError("the stream is too damaged to find packets in it");
      }
      return null;
    }
    const { coding, isLast } = kindOf(packet[0], header.format);
    const end = size - (isLast ? END_SIZE : 0);
    return new Packet(
      header.format > 1 ? view.getUint16(position + 1, true) : packet[1],
      view.getUint16(position + (header.format > 1 ? 3 : 2), true),
      packet.subarray(start, end),
      isLast ? Number(view.getBigUint64(position + end, true)) : null,
      coding,
    );
  }

  function addGap(packet) {
    let full = header.headSize + header.payloadSize(header.framesPerPacket);
    if (header.format > 1 && foundPackets) {
      full = Math.max(header.headSize, Math.floor(foundBytes / foundPackets));
    }
    let lost;
    if (packet === null) {
      // The last packet is shorter than others, and holds at least its own head and end.
      lost = Math.ceil(Math.max(0, skipped - header.headSize - END_SIZE) / full);
    } else {
      // The sequence number gives the count modulo their number, the bytes skipped say which.
      const count = header.sequenceCount;
      lost = (((packet.sequence - expected) % count) + count) % count;
      lost += count * Math.max(0, Math.round((skipped / full - lost) / count));
    }
    const silence = skipped ? 0 : Math.min(lost, silent);
    if (silence) items.push(new Gap(silence, 0, true));
    if (lost > silence || skipped) items.push(new Gap(lost - silence, skipped));
    skipped = 0;
    expected += lost;
  }

  while (bytes.length - position >= header.headSize) {
    if (startsHeader(bytes.subarray(position))) {
      addGap(null);
      return { items, end: position };
    }
    const size = sizeAt();
    const packet = size ? packetAt(size) : null;
    if (packet === null) {
      // Damaged: continue at the next byte that could start a packet.
      const start = position++;
      while (position < bytes.length && !mayStart(bytes[position])) position++;
      skipped += position - start;
      continue;
    }
    addGap(packet);
    items.push(packet);
    position += size;
    expected++;
    foundBytes += size;
    foundPackets++;
    silent = packet.coding === Coding.COMFORT_NOISE ? header.numSilent : 0;
    if (packet.numSamples !== null) return { items, end: position };
  }
  skipped += bytes.length - position;
  if (skipped) addGap(null);
  return { items, end: bytes.length };
}

/** One line about what is wrong with a stream; null if nothing is. */
function damageOf(header, items) {
  const framesPerSecond = header.sampleRate / header.hopLength;
  const few = 1 + Math.floor((MAX_CONCEALED_SECONDS * framesPerSecond) / header.framesPerPacket);
  let numPackets = 0;
  let numLost = 0;
  let numFrames = 0;
  for (const item of items) {
    if (item instanceof Packet) {
      numPackets++;
      numFrames += item.numFrames;
    } else if (item.isSilence) numFrames += item.numPackets * header.framesPerPacket;
    else numLost += item.numPackets;
    if (numLost > few + MAX_CONCEALED * numPackets) {
      throw new FormatError(
        `${numLost} of ${plural(numLost + numPackets)} are missing: the stream is too damaged`,
      );
    }
  }
  const last = items.at(-1);
  const lost = `${plural(numLost)} ${are(numLost)} damaged or missing`;
  if (last?.numSamples == null) {
    return `the stream has no last packet: it was cut short${numLost ? `, and ${lost}` : ""}`;
  }
  if (numLost) return lost;
  const numSamples = last.numSamples + header.skip;
  const expected = header.numFrames(numSamples);
  // From format 2 on, frames after the end may complete the last samples of a cut.
  const more = header.format > 1 ? Math.floor(header.sampleRate / header.hopLength) : 0;
  if (numFrames < expected || numFrames > expected + more) {
    return `the stream has ${numFrames} frames but its last packet says ${expected}`;
  }
  const beforeLast = (numFrames - last.numFrames) * header.hopLength;
  if (!more && beforeLast > header.modelSamples(numSamples)) {
    return `the last packet says ${last.numSamples} samples, but more came before it`;
  }
  return null;
}
