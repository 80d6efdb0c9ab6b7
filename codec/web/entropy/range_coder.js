/** A range coder: symbols of known probabilities to bytes and back (Martin, 1979).
 *
 * All numbers are integers below 2^53, which JavaScript's numbers hold exactly.
 */

/** Sum of the frequencies of all symbols. */
export const TOTAL = 2 ** 16;

const TOP = 2 ** 32;
const REFILL = 2 ** 24; // the interval is refilled by a byte when it is not larger

export class RangeEncoder {
  constructor() {
    this._low = 0;
    this._range = TOP;
    this._bytes = [];
  }

  /** Encode the symbol of that frequency, after symbols that sum up to `start`. */
  encode(start, frequency) {
    const unit = Math.floor(this._range / TOTAL);
    this._low += unit * start;
    this._range = unit * frequency;
    if (this._low >= TOP) {
      this._low -= TOP;
      this._carry();
    }
    while (this._range <= REFILL) {
      this._bytes.push(Math.floor(this._low / 2 ** 24));
      this._low = (this._low % 2 ** 24) * 256;
      this._range *= 256;
    }
  }

  /** The fewest bytes that stand for all symbols; a decoder reads zeros after them. */
  finish() {
    let number = 0;
    let numBytes = 0;
    for (; numBytes < 5; numBytes++) {
      // The smallest number with so many leading bytes in the interval, zeros after them.
      const unit = 2 ** (32 - 8 * numBytes);
      number = Math.ceil(this._low / unit) * unit;
      if (number < this._low + this._range) break;
    }
    if (number >= TOP) {
      number -= TOP;
      this._carry();
    }
    for (let i = 0; i < numBytes; i++)
      this._bytes.push(Math.floor(number / 2 ** (24 - 8 * i)) % 256);
    while (this._bytes.at(-1) === 0) this._bytes.pop();
    return Uint8Array.from(this._bytes);
  }

  /** Add one to the number that the bytes so far are. */
  _carry() {
    let position = this._bytes.length - 1;
    while (this._bytes[position] === 255) this._bytes[position--] = 0;
    this._bytes[position]++;
  }
}

export class RangeDecoder {
  constructor(bytes) {
    this._bytes = bytes;
    this._position = 0;
    this._range = TOP;
    this._unit = 0;
    this._number = 0; // relative to the lower end of the interval
    for (let i = 0; i < 4; i++) this._number = this._number * 256 + this._next();
  }

  /** A number below TOTAL: that of the next symbol, whose frequencies span it. */
  target() {
    this._unit = Math.floor(this._range / TOTAL);
    return Math.min(Math.floor(this._number / this._unit), TOTAL - 1);
  }

  /** Go on after the symbol that spans the last target. */
  consume(start, frequency) {
    this._number -= this._unit * start;
    this._range = this._unit * frequency;
    while (this._range <= REFILL) {
      this._number = this._number * 256 + this._next();
      this._range *= 256;
    }
  }

  _next() {
    return this._bytes[this._position++] ?? 0;
  }
}
