// The camera of this browser: a preview, recordings, and single frames.

import { byId, el } from "./common.js";

const FORMS = ["video/webm;codecs=vp8", "video/webm;codecs=vp9", "video/webm", "video/mp4"];
const SIDE = 256; // pixels of the short side of a frame that is sent

let stream = null;

export const isOn = () => stream !== null;

export const wait = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

/** Opens the camera, or another one, and shows it. */
export async function turnOn(device = null) {
  if (!navigator.mediaDevices) throw new Error("this browser gives no camera to this page; open it as http://127.0.0.1");
  turnOff();
  const video = { width: { ideal: 640 }, height: { ideal: 480 }, ...(device ? { deviceId: { exact: device } } : {}) };
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video, audio: false });
  } catch (error) {
    throw new Error(error.name === "NotAllowedError" ? "the browser was not allowed to use the camera" : `the camera cannot be opened (${error.message || error.name})`);
  }
  const shown = byId("video");
  shown.srcObject = stream;
  shown.hidden = false;
  byId("no-camera").hidden = true;
  await shown.play();
  byId("camera").textContent = "Turn the camera off";
  await listCameras();
}

/** Closes it. */
export function turnOff() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  const shown = byId("video");
  shown.srcObject = null;
  shown.hidden = true;
  byId("no-camera").hidden = false;
  byId("camera").textContent = "Turn the camera on";
}

async function listCameras() {
  const found = (await navigator.mediaDevices.enumerateDevices()).filter((each) => each.kind === "videoinput");
  const now = stream.getVideoTracks()[0].getSettings().deviceId;
  byId("cameras").replaceChildren(...found.map((each, k) => el("option", { value: each.deviceId, selected: each.deviceId === now }, each.label || `camera ${k + 1}`)));
  byId("cameras-field").hidden = found.length < 2;
}

/** Counts down in the picture. */
export async function countDown(from, stopped) {
  for (let left = from; left > 0 && !stopped(); left -= 1) {
    byId("count").textContent = String(left);
    await wait(1);
  }
  byId("count").textContent = "";
}

/** Records so many seconds; gives a Blob and its ending. */
export async function record(seconds) {
  const type = FORMS.find((each) => MediaRecorder.isTypeSupported(each));
  const recorder = new MediaRecorder(stream, { mimeType: type, videoBitsPerSecond: 3_000_000 });
  const parts = [];
  recorder.ondataavailable = (event) => parts.push(event.data);
  const ended = new Promise((done) => { recorder.onstop = done; });
  const preview = byId("preview");
  const bar = byId("bar");
  recorder.start();
  preview.classList.add("recording");
  const began = performance.now();
  try {
    for (let passed = 0; passed < seconds; passed = (performance.now() - began) / 1000) {
      bar.style.width = `${(100 * passed) / seconds}%`;
      await wait(Math.min(0.05, seconds - passed));
    }
  } finally {
    recorder.stop();
    await ended;
    preview.classList.remove("recording");
    bar.style.width = "0";
  }
  return { blob: new Blob(parts, { type }), ending: type.startsWith("video/mp4") ? "mp4" : "webm" };
}

const canvas = document.createElement("canvas");

/** The picture now, as JPEG. */
export function frame() {
  const video = byId("video");
  const scale = Math.min(SIDE / Math.min(video.videoWidth, video.videoHeight), 1);
  canvas.width = Math.max(Math.round(video.videoWidth * scale), 1);
  canvas.height = Math.max(Math.round(video.videoHeight * scale), 1);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.85));
}
