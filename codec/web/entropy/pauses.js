/** Pauses: frames without any code, for which a decoder repeats what it heard before. */

import { NO_CODE } from "./context.js";

const NUM_REFERENCES = 16; // frames before a pause that stand for it, at most

/** Codes of a packet with those of earlier frames where there are none.
 *
 * A pause that begins with frame s repeats the n frames before it, which have codes and are
 * `NUM_REFERENCES` at most. Its frame i, counted from 0, has the codes of frame
 * `s - 1 - floor(n * (40503 * i % 65536) / 65536)`. Nothing outside of the packet is needed.
 *
 * @param codes in the order of the stream, by frame, channel and codebook.
 * @param header of the stream.
 */
export function fillPauses(codes, { channels, numCodebooks }) {
  const filled = codes.slice();
  const size = channels * numCodebooks;
  const numFrames = codes.length / size;
  for (let channel = 0; channel < channels; channel++) {
    let count = 0; // frames that would stand for a pause that begins now
    let start = 0; // where it would begin
    for (let frame = 0; frame < numFrames; frame++) {
      const position = frame * size + channel * numCodebooks;
      if (codes[position] !== NO_CODE) {
        if (start < frame) count = 0; // a pause has just ended
        count = Math.min(count + 1, NUM_REFERENCES);
        start = frame + 1;
        continue;
      }
      if (count === 0) continue; // the packet begins with this pause: nothing stands for it
      const back = Math.floor((count * ((40503 * (frame - start)) % 65536)) / 65536);
      const from = (start - 1 - back) * size + channel * numCodebooks;
      filled.copyWithin(position, from, from + numCodebooks);
    }
  }
  return filled;
}
