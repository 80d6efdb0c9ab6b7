/** Plays two versions of a sound in step, so that one can switch between them at any time. */

const SWITCH_SECONDS = 0.02;

export class Player {
  /** `changed` is called when playing begins, ends, or switches. */
  constructor(changed) {
    this._changed = changed;
    this._context = null; // made at the first click: browsers allow no sound before it
    this.sounds = {};
    this.side = null; // what is playing
    this.duration = 0;
    this._offset = 0;
    this._nodes = null;
  }

  /** Replace the sounds: `{name: {channels, sampleRate}}`, or null for one that is not there. */
  load(sounds) {
    this.pause();
    this.sounds = sounds;
    this._offset = 0;
    const present = Object.values(sounds).filter(Boolean);
    this.duration = Math.max(
      0,
      ...present.map((each) => each.channels[0].length / each.sampleRate),
    );
  }

  /** Seconds from the beginning. */
  get position() {
    if (!this._nodes) return this._offset;
    const position = this._offset + this._context.currentTime - this._nodes.begun;
    return Math.min(this.duration, Math.max(0, position));
  }

  async play(side) {
    if (this.side !== null) {
      this.side = side;
      this._mix();
    } else {
      this.side = side;
      this._context ??= new AudioContext();
      await this._context.resume();
      if (this.side !== null && !this._nodes) this._begin();
    }
    this._changed();
  }

  pause() {
    this._offset = this.position;
    this._end();
    this.side = null;
    this._changed();
  }

  seek(seconds) {
    const playing = this._nodes !== null;
    this._end();
    this._offset = Math.min(this.duration, Math.max(0, seconds));
    if (playing) this._begin();
    this._changed();
  }

  _begin() {
    if (this._offset >= this.duration) this._offset = 0;
    const begun = this._context.currentTime;
    const nodes = { begun, gains: {}, sources: [] };
    for (const [name, sound] of Object.entries(this.sounds)) {
      if (!sound?.channels[0].length) continue;
      const source = new AudioBufferSourceNode(this._context, { buffer: bufferOf(sound) });
      const gain = new GainNode(this._context, { gain: 0 });
      source.connect(gain).connect(this._context.destination);
      source.start(0, this._offset);
      nodes.gains[name] = gain.gain;
      nodes.sources.push(source);
    }
    this._nodes = nodes;
    this._mix();
    const last = nodes.sources.at(-1);
    if (!last) return this.pause();
    last.onended = () => {
      if (this._nodes !== nodes) return;
      this.pause();
      this._offset = 0;
      this._changed();
    };
  }

  _mix() {
    if (!this._nodes) return;
    for (const [name, gain] of Object.entries(this._nodes.gains)) {
      gain.setTargetAtTime(
        name === this.side ? 1 : 0,
        this._context.currentTime,
        SWITCH_SECONDS / 4,
      );
    }
  }

  _end() {
    const nodes = this._nodes;
    this._nodes = null;
    for (const source of nodes?.sources ?? []) source.stop();
  }
}

function bufferOf({ channels, sampleRate }) {
  const buffer = new AudioBuffer({
    length: channels[0].length,
    numberOfChannels: channels.length,
    sampleRate,
  });
  channels.forEach((samples, i) => buffer.copyToChannel(samples, i));
  return buffer;
}
