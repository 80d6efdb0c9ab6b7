/** The worker, as a function that returns promises. */

import { CodecError } from "./errors.js";

export class WorkerClient {
  /** `progress` is called with what is being done, and with the share that is done. */
  constructor(progress) {
    this._calls = new Map();
    this._number = 0;
    this._worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this._worker.onmessage = ({ data: { id, kind, ...result } }) => {
      if (kind === "progress") {
        progress(result.what, result.share);
        return;
      }
      const { resolve, reject } = this._calls.get(id);
      this._calls.delete(id);
      if (kind === "done") resolve(result);
      else reject(new CodecError(result.message));
    };
    this._worker.onerror = () => {
      const error = new CodecError(
        "the model cannot be started: use a newer browser, or reload the page",
      );
      for (const { reject } of this._calls.values()) reject(error);
      this._calls.clear();
    };
  }

  /** Ask for something, see worker.js. */
  call(kind, details = {}, transfer = []) {
    return new Promise((resolve, reject) => {
      const id = this._number++;
      this._calls.set(id, { resolve, reject });
      this._worker.postMessage({ id, kind, ...details }, transfer);
    });
  }
}
