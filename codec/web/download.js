/** Files of the page and of its models. */

import { CodecError } from "./errors.js";

/** Bytes of a file.
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
  return new Uint8Array(await new Blob(pieces).arrayBuffer());
}

/** A JSON file. */
export async function downloadJson(url) {
  return JSON.parse(new TextDecoder().decode(await download(url)));
}
