/** Plain payloads: codes of fixed width, most significant bit first, zero bits up to a byte.
 *
 * Codes are flat arrays in the order of the stream: by frame, then channel, then codebook.
 */

import { FormatError } from "../errors.js";

/** Bytes that `packCodes` makes of `count` codes of `width` bits. */
export const packedSize = (width, count) => Math.ceil((width * count) / 8);

/** Bytes of codes. */
export function packCodes(codes, width) {
  const bytes = new Uint8Array(packedSize(width, codes.length));
  let held = 0; // the newest bits, of which `bits` are not written yet
  let bits = 0;
  let position = 0;
  for (const code of codes) {
    if (!(code >= 0 && code < 1 << width))
      throw new RangeError(`${code} does not fit ${width} bits`);
    held = ((held << width) | code) & 0xffffff;
    bits += width;
    for (; bits >= 8; bits -= 8) bytes[position++] = held >> (bits - 8);
  }
  if (bits) bytes[position] = held << (8 - bits);
  return bytes;
}

/** The `count` codes in a payload. */
export function unpackCodes(payload, width, count) {
  if (payload.length !== packedSize(width, count)) {
    throw new FormatError(
      `${count} codes in ${payload.length} bytes do not fit the stream's header`,
    );
  }
  const codes = new Int32Array(count);
  let held = 0;
  let bits = 0;
  let position = 0;
  for (let i = 0; i < count; i++) {
    for (; bits < width; bits += 8) held = ((held << 8) | payload[position++]) & 0xffffff;
    bits -= width;
    codes[i] = (held >> bits) & ((1 << width) - 1);
  }
  return codes;
}
