/** The page: what the user chooses goes to the worker, what comes back is shown and played. */

import { readAudio } from "./audio_file.js";
import { CodecError, messageOf } from "./errors.js";
import { startsStream } from "./format/container.js";
import { Microphone } from "./microphone.js";
import { Player } from "./player.js";
import { plainBitrate } from "./rate.js";
import { drawSpectrogram } from "./spectrogram.js";
import { writeWave } from "./wave.js";
import { WorkerClient } from "./worker_client.js";

const $ = (id) => document.getElementById(id);
const SIDES = ["original", "decoded"];

export const player = new Player(showPlayer);
const worker = new WorkerClient(showProgress);
let info; // of the model that is chosen
let offered; // what the bitrates are of: a model or a header
let scale; // what the bitrates are: a key of SCALES
let source = null; // {name, bytes} of a stream, or {name, sampleRate, channels}
let microphone = null;
let newest = 0; // number of the newest job: older ones are of no interest any more

/** Run a job, show that it runs, and its error if it fails. */
async function run(job) {
  const number = ++newest;
  const current = () => number === newest;
  showError(null);
  $("cancel").hidden = true;
  $("result").setAttribute("aria-busy", "true");
  try {
    await job(current);
  } catch (error) {
    if (!(error instanceof CodecError)) console.error(error);
    if (current()) showError(messageOf(error));
  } finally {
    if (current()) showIdle();
  }
}

function showIdle() {
  showProgress(null);
  $("cancel").hidden = true;
  $("result").removeAttribute("aria-busy");
}

/** End the coding that is going on; what is shown stays. */
function cancel() {
  newest++;
  worker.cancel();
  showIdle();
  $("status").textContent = "Cancelled";
}

async function begin() {
  const { models } = await worker.call("models");
  $("model").replaceChildren(
    ...models.map(({ name, key }) => new Option(name, key)),
  );
  await chooseModel($("model").value);
}

async function chooseModel(model) {
  ({ info } = await worker.call("load", { model }));
  $("model").value = model;
  if (!info.context) $("mode").value = "constant";
  setBitrates(info);
}

const BITRATE_STEP = 100;
/** For each mode the range of the slider, where it begins, and what is shown for a value. */
const SCALES = {
  constant: {
    range: ({ codebooks }) => [1, codebooks.length, 1, codebooks.length],
    text: (count) => `${decimal(plainBitrate(offered, count) / 1000)} kbit/s`,
    rate: (codebooks) => ({ mode: "constant", codebooks }),
  },
  average: {
    range: (geometry) => {
      const [low, high] = [1, geometry.codebooks.length].map((n) => plainBitrate(geometry, n));
      const lowest = Math.ceil(low / BITRATE_STEP) * BITRATE_STEP;
      return [lowest, high, BITRATE_STEP, lowest + BITRATE_STEP * Math.round((high - lowest) / 200)];
    },
    text: (bitrate) => `${decimal(bitrate / 1000)} kbit/s`,
    rate: (bitrate) => ({ mode: "average", bitrate }),
  },
  quality: {
    range: () => [0, 10, 0.1, 5],
    text: (quality) => `${quality.toFixed(1)} of 10`,
    rate: (quality) => ({ mode: "quality", quality }),
  },
};

/** Offer the bitrates of a model, or of a stream, whose codebooks they are. */
function setBitrates(geometry, chosen = null, isStream = false) {
  const range = $("bitrate");
  offered = geometry;
  scale = isStream ? "constant" : $("mode").value;
  $("mode").disabled = isStream || !info.context;
  $("bitrate-name").textContent = scale === "quality" ? "Quality" : "Bitrate";
  const [min, max, step, start] = SCALES[scale].range(offered);
  Object.assign(range, { min, max, step });
  range.value = chosen ?? start;
  range.disabled = false;
  showBitrate();
}

const chosenValue = () => Number($("bitrate").value);

function showBitrate() {
  const text = SCALES[scale].text(chosenValue());
  $("bitrate-text").value = text;
  $("bitrate").setAttribute("aria-valuetext", text);
}

/** Take a file: audio or a stream. */
function open(file) {
  return run(async (current) => {
    showProgress("Reading the file");
    const { name } = file;
    const bytes = await bytesOf(file);
    if (bytes.length === 0) throw new CodecError(`${name} is empty: choose another file`);
    let opened;
    try {
      opened = startsStream(bytes) ? { name, bytes } : { name, ...(await readAudio(bytes, name)) };
    } finally {
      if (current()) hideResult();
    }
    if (!current()) return;
    source = opened;
    await code(current, Infinity);
  });
}

async function bytesOf(file) {
  try {
    return new Uint8Array(await file.arrayBuffer());
  } catch {
    throw new CodecError(
      `${file.name} cannot be read: choose a file that exists and fits in memory`,
    );
  }
}

/** Encode and decode the source, or decode it if it is a stream, and show the result. */
async function code(current, limit = chosenValue()) {
  const { name, bytes, channels, sampleRate } = source;
  const model = $("model").value;
  $("cancel").hidden = false;
  if (!bytes) {
    const rate = rateFor(channels.length);
    const result = await worker.call("encode", { model, channels, sampleRate, rate });
    if (current()) show(result, { channels, sampleRate });
    return;
  }
  const result = await worker.call("decode", { bytes, limit, model });
  if (!current()) return;
  ({ info } = result);
  $("model").value = info.key;
  setBitrates(result.header, Math.min(limit, result.header.codebooks.length), true);
  show({ ...result, bytes }, null);
}

/** The rate that is chosen for so many channels. */
function rateFor(channels) {
  // A stream before may have had fewer codebooks than the model, or another scale.
  const isOwn = scale === $("mode").value && offered.codebooks.length === info.codebooks.length;
  const channelsCodedTogether = Math.min(channels, info.channelsCodedTogether);
  setBitrates({ ...info, channelsCodedTogether }, isOwn ? chosenValue() : null);
  return SCALES[scale].rate(chosenValue());
}

function hideResult() {
  source = null;
  player.load({});
  $("result").hidden = true;
}

/** Show a result: of the worker, and the original if there is one. */
function show(result, original) {
  const { bytes, channels, header, damage } = result;
  const decoded = { channels, sampleRate: header.sampleRate };
  player.load({ original, decoded });
  $("result-title").textContent = source.name;
  $("damage").textContent = damage ? `This stream is damaged: ${damage}.` : "";
  $("damage").hidden = !damage;
  $("original").hidden = !original;
  const highest = header.sampleRate / 2;
  for (const [side, sound] of Object.entries({ original, decoded })) {
    if (!sound) continue;
    const canvas = $(side).querySelector("canvas");
    drawSpectrogram(canvas, sound.channels, sound.sampleRate, highest);
    $(side).querySelector(".top").textContent = `${decimal(highest / 1000)} kHz`;
    canvas.setAttribute(
      "aria-label",
      `Spectrogram of the ${side} sound up to ${decimal(highest / 1000)} kHz`,
    );
  }
  $("position").max = player.duration;
  showFacts(result, original);
  const stem = source.name.replace(/\.[^.]*$/, "");
  offer($("save-codes"), bytes, `${stem}.codes`);
  offer($("save-wav"), writeWave(channels, header.sampleRate), `${stem}-decoded.wav`);
  $("result").hidden = false;
  showPlayer();
}

function showFacts(
  { bytes, channels, header, encodeSeconds, decodeSeconds, late, info: model },
  original,
) {
  const seconds = channels[0].length / header.sampleRate;
  const facts = {
    Length: `${decimal(seconds)} s, ${channels.length === 1 ? "mono" : `${channels.length} channels`}`,
    Size: `${bytes.length.toLocaleString("en")} bytes`,
    "Bitrate of the file": seconds ? `${decimal((8 * bytes.length) / seconds / 1000)} kbit/s` : "–",
  };
  if (original) {
    const pcm = 2 * original.channels.length * original.channels[0].length;
    facts["Share of 16-bit PCM"] = `1/${Math.round(pcm / bytes.length) || 1}`;
  }
  const speed = (taken) => `${decimal(seconds / taken)} × real time`;
  if (encodeSeconds && seconds) facts["Encoding speed"] = speed(encodeSeconds);
  if (seconds) facts["Decoding speed"] = speed(decodeSeconds);
  if (late !== undefined) facts["Late frames"] = `${late}`;
  facts.Model = model.name;
  const rows = Object.entries(facts).map(([term, value]) => {
    const row = document.createElement("div");
    const [dt, dd] = ["dt", "dd"].map((tag) => document.createElement(tag));
    dt.textContent = term;
    dd.textContent = value;
    row.append(dt, dd);
    return row;
  });
  $("facts").replaceChildren(...rows);
}

/** Let a link save bytes. */
function offer(link, bytes, name) {
  if (link.href) URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(new Blob([bytes]));
  link.download = name;
}

async function record() {
  await run(async (current) => {
    hideResult();
    showProgress("Waiting for the microphone");
    const opened = await Microphone.open(info.channelsCodedTogether);
    const { sampleRate, ports } = opened;
    const details = {
      model: $("model").value,
      rate: rateFor(info.channelsCodedTogether),
      sampleRate,
      ...ports,
    };
    try {
      await worker.call("start", details, Object.values(ports));
    } catch (error) {
      opened.stop();
      throw error;
    }
    opened.audible = $("monitor").checked;
    await opened.start();
    microphone = opened;
    showRecording();
    if (current()) showProgress("Recording");
  });
  if (microphone) $("status").textContent = "Recording";
}

async function stopRecording() {
  await run(async (current) => {
    const ended = microphone;
    microphone = null;
    showRecording();
    await ended.stop();
    const result = await worker.call("stop");
    if (!current()) return;
    const { sampleRate } = result.header;
    source = { name: "recording", channels: result.recorded, sampleRate };
    show(result, { channels: result.recorded, sampleRate });
  });
}

function showRecording() {
  const on = microphone !== null;
  $("record").textContent = on ? "Stop recording" : "Record with the microphone";
  $("record").classList.toggle("active", on);
  for (const id of ["file", "model", "bitrate"]) $(id).disabled = on;
  $("mode").disabled = on || !info.context;
}

/** What the worker does, and the share that is done if it is known; nothing if `what` is null. */
function showProgress(what, share) {
  $("status").textContent = what ? `${what} …` : "";
  const bar = $("progress");
  bar.hidden = !what;
  if (share === undefined) bar.removeAttribute("value");
  else bar.value = share;
}

function showError(message) {
  $("error").textContent = message ?? "";
  $("error").hidden = message === null;
}

function showPlayer() {
  for (const side of SIDES) {
    const button = document.querySelector(`button[data-side=${side}]`);
    const playing = player.side === side;
    button.textContent = playing ? `Pause the ${side}` : `Play the ${side}`;
    button.classList.toggle("active", playing);
  }
  showPosition();
}

function showPosition() {
  const { position, duration } = player;
  const text = `${position.toFixed(1)} of ${duration.toFixed(1)} s`;
  $("position").value = position;
  $("position").setAttribute("aria-valuetext", text);
  $("position-text").value = text;
  for (const cursor of document.querySelectorAll(".cursor")) {
    cursor.style.left = `${duration ? (100 * position) / duration : 0}%`;
  }
  if (player.side !== null) requestAnimationFrame(showPosition);
}

/** A number with three significant digits, or all that stand before the point. */
const decimal = (value) =>
  value >= 100 ? Math.round(value).toLocaleString("en") : `${Number(value.toPrecision(3))}`;

$("cancel").addEventListener("click", cancel);
$("file").addEventListener("change", ({ target }) => {
  if (target.files.length) open(target.files[0]);
});
// So that the same file can be chosen again.
$("file").addEventListener("click", ({ target }) => (target.value = ""));
$("model").addEventListener("change", ({ target }) =>
  run(async (current) => {
    await chooseModel(target.value);
    if (source && !source.bytes) await code(current);
  }),
);
$("mode").addEventListener("change", () =>
  run(async (current) => {
    setBitrates(offered);
    if (source) await code(current);
  }),
);
$("bitrate").addEventListener("input", showBitrate);
$("bitrate").addEventListener("change", () => {
  if (source) run(code);
});
$("record").addEventListener("click", () => (microphone ? stopRecording() : record()));
$("monitor").addEventListener("change", ({ target }) => {
  if (microphone) microphone.audible = target.checked;
});
$("position").addEventListener("input", ({ target }) => player.seek(Number(target.value)));
for (const side of SIDES) {
  document.querySelector(`button[data-side=${side}]`).addEventListener("click", () => {
    if (player.side === side) player.pause();
    else player.play(side);
  });
  const canvas = $(side).querySelector("canvas");
  canvas.addEventListener("click", ({ offsetX }) =>
    player.seek((offsetX / canvas.clientWidth) * player.duration),
  );
}
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", ({ relatedTarget }) => {
  if (!relatedTarget) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const [file] = event.dataTransfer.files;
  if (file && !microphone) open(file);
});

$("trouble").remove();
run(begin);
