/** Integers of given widths in bytes: most significant bit first, zero bits up to a byte. */

import { FormatError } from "../errors.js";

/** Widths of the codes of the first `count` of codebooks `{bits, perFrame}`. */
export const bitsOf = (codebooks, count = Infinity) =>
  codebooks.slice(0, count).flatMap(({ bits, perFrame }) => Array(perFrame).fill(bits));

export const sumOf = (values) => values.reduce((sum, value) => sum + value, 0);

/** Bytes that `pack` makes of `count` values, whole repeats of the widths `bits`. */
export const packedSize = (bits, count) => Math.ceil((sumOf(bits) * count) / bits.length / 8);

/** Bytes of values whose widths are `bits`, again and again. */
export function pack(values, bits) {
  const bytes = new Uint8Array(packedSize(bits, values.length));
  let held = 0; // the newest bits, of which `count` are not written yet
  let count = 0;
  let position = 0;
  values.forEach((value, i) => {
    const width = bits[i % bits.length];
    if (!(value >= 0 && value < 1 << width))
      throw new RangeError(`${value} does not fit ${width} bits`);
    held = ((held << width) | value) & 0xffffff;
    count += width;
    for (; count >= 8; count -= 8) bytes[position++] = held >> (count - 8);
  });
  if (count) bytes[position] = held << (8 - count);
  return bytes;
}

/** The `length` values in a payload. */
export function unpack(payload, bits, length) {
  if (payload.length !== packedSize(bits, length)) {
    throw new FormatError(
      `${length} codes in ${payload.length} bytes do not fit the stream's header`,
    );
  }
  const values = new Int32Array(length);
  let held = 0;
  let count = 0;
  let position = 0;
  for (let i = 0; i < length; i++) {
    const width = bits[i % bits.length];
    for (; count < width; count += 8) held = ((held << 8) | payload[position++]) & 0xffffff;
    count -= width;
    values[i] = (held >> count) & ((1 << width) - 1);
  }
  return values;
}
