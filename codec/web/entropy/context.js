/** `ContextModel`: how likely each code is, given the codes before it, in integers.
 *
 * The same steps as in `codec/entropy/context.py`, which explains them: both must find the same
 * probabilities to the last bit. Sums stay below 2^23, so that 32 bits hold them.
 */

import { FormatError } from "../errors.js";
import { TOTAL } from "./range_coder.js";

const FORMAT = 1;
const LIMIT = 127; // largest activation
const WEIGHT_BITS = 6;
const TABLE_SHIFT = 4; // from sums to steps of the table: 128 steps are one bit
/** In place of a code that is absent: those of a frame's upper codebooks. */
export const NO_CODE = -1;

// Nothing here lies within 0.0005 of a half, so that rounding does not depend on the last bits.
const TABLE = Int32Array.from({ length: 16 << 7 }, (_, i) => Math.round(2 ** (16 - i / 128)));

const ARRAYS = { I8: Int8Array, U8: Uint8Array, U16: Uint16Array, I32: Int32Array };

export class ContextModel {
  /** The model in a file `context.safetensors`. */
  static fromBytes(bytes) {
    const tensors = readTensors(bytes);
    const { format, shape } = JSON.parse(new TextDecoder().decode(tensors.meta));
    if (format !== FORMAT) {
      throw new FormatError(
        `the context model has format ${format}, this page reads ${FORMAT}: use a newer aecodec`,
      );
    }
    return new ContextModel(shape, tensors);
  }

  constructor(shape, tensors) {
    this._tensors = tensors;
    this.numCodebooks = shape.num_codebooks;
    this._size = shape.codebook_size;
    this._entryDim = shape.entry_dim;
    this._width = shape.width;
    this._hidden = shape.hidden;
    this._dilations = shape.dilations;
    const bits = Math.log2(this._size);
    this._digits = [1 << ((bits + 1) >> 1), 1 << (bits >> 1)];
    this._codes = Uint16Array.from(tensors.order); // code of each place
    for (let i = 0; i < tensors.order.length; i++) {
      const first = i - (i % this._size);
      this._codes[first + tensors.order[i]] = i - first;
    }
  }

  /** What is remembered before the first frame of a sequence. */
  initState() {
    const layers = this._dilations.map((dilation) =>
      Array.from({ length: dilation }, () => new Int32Array(this._width)),
    );
    return { entries: new Int32Array(this.numCodebooks * this._entryDim), layers };
  }

  /** Code the next frame of all rows.
   *
   * @param frames for each row `{state, codes, present}`: its state, which is brought up to date,
   * codes that are known or to be found, `NO_CODE` for absent ones, and whether it has any.
   * @param variable whether frames may have different numbers of codes.
   * @param digit called with cumulative frequencies and the known digit; returns the digit.
   */
  codeFrame(frames, variable, digit) {
    const numCodebooks = frames[0].codes.length;
    const rows = frames.map(({ state, codes, present }) => {
      const x = this._past(state);
      const sums = present ? this._sums("context", x) : null;
      return { state, codes, x, sums, count: present ? numCodebooks : 0 };
    });
    if (variable) {
      for (const each of rows.filter(({ count }) => count > 0)) {
        const ends = endsOf(this._sums("counts", each.x).subarray(0, numCodebooks));
        each.count = 1 + digit(ends, countOf(each.codes) - 1);
      }
    }
    for (let k = 0; k < numCodebooks; k++) {
      const present = rows.filter(({ count }) => count > k);
      for (const each of present) {
        each.units = this._units(each.sums, k);
        const place = this._tensors.order[k * this._size + Math.max(0, each.codes[k])];
        const known = Math.floor(place / this._digits[1]);
        each.known = place % this._digits[1];
        each.first = digit(this._ends("first", each.units, k), known);
      }
      for (const each of present) {
        const ends = this._ends("second", each.units, k * this._digits[0] + each.first);
        const second = digit(ends, each.known);
        const place = each.first * this._digits[1] + second;
        each.codes[k] = this._codes[k * this._size + place];
        this._remember(each, k);
      }
      for (const each of rows) if (each.count <= k) this._forget(each, k);
    }
    for (const { state } of rows) {
      state.entries.fill(0, numCodebooks * this._entryDim);
    }
  }

  /** Bring the entries of a code into the sums of the codebooks after it, and into the state. */
  _remember({ state, codes, sums }, k) {
    const dim = this._entryDim;
    const entries = this._tensors.entries
      .subarray((k * this._size + codes[k]) * dim)
      .subarray(0, dim);
    state.entries.set(entries, k * dim);
    addProduct(sums, entries, this._tensors.inner, k * dim, (k + 1) * this._hidden);
  }

  _forget({ state, codes }, k) {
    codes[k] = NO_CODE;
    state.entries.fill(0, k * this._entryDim, (k + 1) * this._entryDim);
  }

  /** What is known before a frame, from the frames before it. */
  _past({ entries, layers }) {
    const width = this._width;
    let x = shifted(this._sums("past", entries), -LIMIT);
    layers.forEach((layer, number) => {
      const taps = new Int32Array(2 * width);
      taps.set(layer.shift());
      taps.set(x, width);
      layer.push(x);
      const inner = shifted(this._sums(`taps_${number}`, taps), 0);
      const y = shifted(this._sums(`project_${number}`, inner), -LIMIT);
      x = x.map((value, i) => Math.max(-LIMIT, Math.min(LIMIT, value + y[i])));
    });
    return x;
  }

  /** Hidden units of a codebook. */
  _units(sums, k) {
    const hidden = this._hidden;
    const input = shifted(sums.subarray(k * hidden, (k + 1) * hidden), 0);
    return shifted(this._sums("hidden", input, k, hidden), 0);
  }

  _ends(name, units, number) {
    return endsOf(this._sums(name, units, number, this._digits[name === "first" ? 0 : 1]));
  }

  /** `x` times one of the matrices of a name, plus what is added. */
  _sums(name, x, number = 0, outputs = this._tensors[`${name}_bias`].length) {
    const bias = this._tensors[`${name}_bias`];
    const sums = bias.slice(number * outputs, (number + 1) * outputs);
    addProduct(sums, x, this._tensors[name], number * x.length, 0);
    return sums;
  }
}

/** Add `x` times rows of a matrix, from one row on, to sums, from one of them on.
 *
 * Nearly all of the time goes into this. Four rows at once take 0.6 times as long as one by one,
 * and `Math.imul` saves the check whether products are integers.
 */
function addProduct(sums, x, matrix, firstRow, firstSum) {
  const columns = sums.length;
  const used = []; // half of all activations are zero
  for (let i = 0; i < x.length; i++) if (x[i] !== 0) used.push(i);
  for (let n = 0; n < used.length; n += 4) {
    const factors = [0, 0, 0, 0];
    const starts = [0, 0, 0, 0];
    for (let m = 0; m < 4 && n + m < used.length; m++) {
      factors[m] = x[used[n + m]];
      starts[m] = (firstRow + used[n + m]) * columns;
    }
    const [a, b, c, d] = factors;
    const [p, q, r, s] = starts;
    for (let j = firstSum; j < columns; j++) {
      sums[j] +=
        Math.imul(a, matrix[p + j]) +
        Math.imul(b, matrix[q + j]) +
        Math.imul(c, matrix[r + j]) +
        Math.imul(d, matrix[s + j]);
    }
  }
}

/** Activations from sums. */
function shifted(sums, lowest) {
  return sums.map((sum) => Math.max(lowest, Math.min(LIMIT, sum >> WEIGHT_BITS)));
}

/** Cumulative frequencies from logarithms of probabilities; the last is TOTAL. */
function endsOf(sums) {
  const count = sums.length;
  let largest = -Infinity;
  for (const sum of sums) largest = Math.max(largest, sum);
  const ends = new Float64Array(count); // products are larger than 2^32
  let total = 0;
  for (let i = 0; i < count; i++) {
    total += TABLE[Math.min((largest - sums[i]) >> TABLE_SHIFT, TABLE.length - 1)];
    ends[i] = total;
  }
  for (let i = 0; i < count; i++) ends[i] = Math.floor((ends[i] * (TOTAL - count)) / total) + i + 1;
  return ends;
}

const countOf = (codes) => codes.reduce((count, code) => count + (code >= 0), 0);

/** The tensors of a file in the format of safetensors, by name. */
function readTensors(bytes) {
  const size = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const table = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + size)));
  delete table.__metadata__;
  const tensors = {};
  for (const [
    name,
    {
      dtype,
      data_offsets: [start, end],
    },
  ] of Object.entries(table)) {
    tensors[name] = new ARRAYS[dtype](bytes.slice(8 + size + start, 8 + size + end).buffer);
  }
  return tensors;
}
