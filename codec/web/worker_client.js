/** The worker, as a function that returns promises. */

import { CodecError } from "./errors.js";

export class WorkerClient {
  /** `progress` is called with what is being done, and with the share that is done. */
  constructor(progress) {
    this._progress = progress;
    this._calls = new Map();
    this._number = 0;
    this._start();
  }

  /** Ask for something, see worker.js. */
  call(kind, details = {}, transfer = []) {
    return new Promise((resolve, reject) => {
      const id = this._number++;
      this._calls.set(id, { resolve, reject });
      this._worker.postMessage({ id, kind, ...details }, transfer);
    });
  }

  /** End all that is being done. The next call starts again, and loads its model again. */
  cancel() {
    this._worker.terminate();
    this._start();
    this._reject("cancelled");
  }

  _start() {
    this._worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this._worker.onmessage = ({ data: { id, kind, ...result } }) => {
      if (kind === "progress") {
        this._progress(result.what, result.share);
        return;
      }
      const { resolve, reject } = this._calls.get(id);
      this._calls.delete(id);
      if (kind === "done") resolve(result);
      else reject(new CodecError(result.message));
    };
    this._worker.onerror = () =>
      this._reject("the model cannot be started: use a newer browser, or reload the page");
  }

  _reject(reason) {
    const calls = [...this._calls.values()];
    this._calls.clear();
    for (const { reject } of calls) reject(new CodecError(reason));
  }
}
