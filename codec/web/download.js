/** Files of the page and of its models. */

import { CodecError } from "./errors.js";

/** Bytes of a file, decompressed if they are gzip's.
 *
 * @param url where it is.
 * @param progress called with the number of bytes received so far.
 */
export async function download(url, progress = () => {}) {
  let response;
  try {
    response = await fetch(url);
  } catch {
    throw new CodecError(`${url} cannot be loaded: is the server still running?`);
  }
  if (!response.ok) {
    throw new CodecError(
      `${url} is missing on the server (${response.status}): copy the page again`,
    );
  }
  const pieces = [];
  let received = 0;
  try {
    for (const reader = response.body.getReader(); ;) {
      const { done, value } = await reader.read();
      if (done) break;
      pieces.push(value);
      progress((received += value.length));
    }
  } catch {
    throw new CodecError(`${url} was cut off: try again`);
  }
  // Some servers send *.gz as compressed content, which the browser decompresses by itself.
  const compressed = pieces[0]?.[0] === 0x1f && pieces[0][1] === 0x8b;
  const blob = new Blob(pieces);
  const stream = compressed
    ? blob.stream().pipeThrough(new DecompressionStream("gzip"))
    : blob.stream();
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** A JSON file. */
export async function downloadJson(url) {
  return JSON.parse(new TextDecoder().decode(await download(url)));
}
