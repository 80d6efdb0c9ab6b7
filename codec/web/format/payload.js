/** Plain payloads: codes of fixed widths, most significant bit first, zero bits up to a byte.
 *
 * Codes are flat arrays in the order of the stream: by frame, then group of channels, then codebook.
 * `bits` are the widths of the codes of a frame and group.
 */

import { FormatError } from "../errors.js";

/** Widths of the codes of the first `count` of codebooks `{bits, perFrame}`. */
export const bitsOf = (codebooks, count = Infinity) =>
  codebooks.slice(0, count).flatMap(({ bits, perFrame }) => Array(perFrame).fill(bits));

export const sumOf = (values) => values.reduce((sum, value) => sum + value, 0);

/** Bytes that `packCodes` makes of `count` codes, those of whole groups. */
export const packedSize = (bits, count) => Math.ceil((sumOf(bits) * count) / bits.length / 8);

/** Bytes of codes. */
export function packCodes(codes, bits) {
  const bytes = new Uint8Array(packedSize(bits, codes.length));
  let held = 0; // the newest bits, of which `count` are not written yet
  let count = 0;
  let position = 0;
  codes.forEach((code, i) => {
    const width = bits[i % bits.length];
    if (!(code >= 0 && code < 1 << width))
      throw new RangeError(`${code} does not fit ${width} bits`);
    held = ((held << width) | code) & 0xffffff;
    count += width;
    for (; count >= 8; count -= 8) bytes[position++] = held >> (count - 8);
  });
  if (count) bytes[position] = held << (8 - count);
  return bytes;
}

/** The `length` codes in a payload. */
export function unpackCodes(payload, bits, length) {
  if (payload.length !== packedSize(bits, length)) {
    throw new FormatError(
      `${length} codes in ${payload.length} bytes do not fit the stream's header`,
    );
  }
  const codes = new Int32Array(length);
  let held = 0;
  let count = 0;
  let position = 0;
  for (let i = 0; i < length; i++) {
    const width = bits[i % bits.length];
    for (; count < width; count += 8) held = ((held << 8) | payload[position++]) & 0xffffff;
    count -= width;
    codes[i] = (held >> count) & ((1 << width) - 1);
  }
  return codes;
}
