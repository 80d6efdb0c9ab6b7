/** Live sound between the microphone, the worker and the loudspeaker. */

import { CodecError } from "./errors.js";

export class Microphone {
  /** Ask for the microphone, with so many channels. */
  static async open(channelCount) {
    if (!navigator.mediaDevices || !globalThis.AudioWorkletNode) {
      throw new CodecError(
        "the microphone needs a page with https, or one from this machine: use aecodec web",
      );
    }
    const context = new AudioContext();
    try {
      const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
      const audio = { ...plain, channelCount };
      const stream = await navigator.mediaDevices.getUserMedia({ audio });
      await context.audioWorklet.addModule(new URL("worklet.js", import.meta.url).href);
      return new Microphone(context, stream, channelCount);
    } catch (error) {
      context.close();
      if (error.name === "NotFoundError")
        throw new CodecError("no microphone was found: connect one");
      if (error.name !== "NotAllowedError") throw error;
      throw new CodecError(
        "the microphone is blocked: allow it for this page in the browser's settings",
      );
    }
  }

  constructor(context, stream, channelCount) {
    this.sampleRate = context.sampleRate;
    this._context = context;
    this._stream = stream;
    this._playback = new AudioWorkletNode(context, "playback", {
      outputChannelCount: [channelCount],
    });
    this._capture = new AudioWorkletNode(context, "capture", {
      channelCount,
      channelCountMode: "explicit",
    });
    const [heard, decoded] = [new MessageChannel(), new MessageChannel()];
    this._heard = heard.port1;
    this._playback.port.postMessage(decoded.port1, [decoded.port1]);
    /** Ports for the worker: `input` brings samples, `output` takes decoded ones. */
    this.ports = { input: heard.port2, output: decoded.port2 };
  }

  /** Whether the decoded sound is heard. */
  set audible(on) {
    if (on) this._playback.connect(this._context.destination);
    else this._playback.disconnect();
  }

  /** Begin when the worker is ready. */
  start() {
    this._capture.port.postMessage(this._heard, [this._heard]);
    new MediaStreamAudioSourceNode(this._context, { mediaStream: this._stream }).connect(
      this._capture,
    );
    // A node that is connected to nothing may not be processed; this one is silent.
    this._capture.connect(this._context.destination);
    return this._context.resume();
  }

  /** End: the worker is told when it has everything. */
  async stop() {
    this._capture.port.postMessage(null);
    for (const track of this._stream.getTracks()) track.stop();
    // The audio thread must live until it has sent its last block.
    setTimeout(() => this._context.close(), 500);
  }
}
