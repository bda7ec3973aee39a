// The studio: the views, the camera's buttons, and what is taught.

import * as camera from "./camera.js";
import { ask, byId, say, tried } from "./common.js";
import { showClasses } from "./classes.js";
import { takesFiles } from "./drop.js";
import { showAnswer } from "./answer.js";
import { restoreEvents, watching } from "./watching.js";

const NONE = "_none";
const VIEWS = ["teach", "try", "watch", "export"];
let state = null;
let busy = false;

/** Shows one view; the address keeps which, so that a reload comes back to it. */
function showView() {
  const asked = location.hash.slice(1);
  const view = VIEWS.includes(asked) ? asked : "teach";
  for (const part of document.querySelectorAll("[data-view]")) part.hidden = part.dataset.view !== view;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (view !== "watch" && watching.isOn()) watching.stop();
}

/** Shows what the server says of the support. */
function show(next) {
  if (!next) return;
  state = next;
  byId("where").textContent = `${state.support} · model ${state.model.name}`;
  byId("where").title = state.model.engine;
  byId("folder").textContent = state.support;
  byId("labels").replaceChildren(...state.classes.map(({ label }) => new Option(label, label)));
  showClasses(state, { remove, move, addFiles, teach });
  watching.show(state);
  showExport();
}

function showExport() {
  const count = state.classes.filter(({ clips }) => clips.length).length;
  byId("bank").toggleAttribute("hidden", count === 0);
  byId("bank").download = state.bank;
  byId("bank-about").textContent = count === 0 ? "There is no class yet." : `${state.bank}: ${count} ${count === 1 ? "class" : "classes"}, model ${state.model.name}.`;
  const name = /^[\w.-]+$/.test(state.bank) ? state.bank : `'${state.bank.replaceAll("'", "'\\''")}'`;
  const threshold = watching.chosen();
  const flag = threshold === null ? "" : ` --threshold ${threshold}`;
  byId("commands").textContent = [`mafsar watch ${name} 0${flag}`, `mafsar watch ${name} long.mp4 --csv events.csv${flag}`, `mafsar match ${name} clip.mp4${flag}`].join("\n");
}

/** Sends clips to a class, one after the other; each that is refused is named. */
async function addFiles(label, files) {
  if (!label) {
    say("Type the name of the class first.", { error: true });
    byId("label").focus();
    return;
  }
  const problems = [];
  for (const [k, file] of files.entries()) {
    byId("said").textContent = `Reading ${file.name} (${k + 1} of ${files.length}) …`;
    const more = k + 1 < files.length ? "1" : "0";
    try {
      show(await ask("/api/clips", { method: "POST", query: { label, name: file.name, more }, body: file }));
    } catch (error) {
      problems.push(error.message);
    }
  }
  byId("said").textContent = "";
  if (problems.length) {
    say(problems.slice(0, 3).join(" · ") + (problems.length > 3 ? ` · and ${problems.length - 3} more` : ""), { error: true });
    show(await tried(() => ask("/api/state")));
  }
}

async function remove(clip, label) {
  const next = await tried(() => ask(`/api/clips/${clip.id}`, { method: "DELETE" }));
  if (!next) return;
  show(next);
  const back = async () => show(await tried(() => ask(`/api/removed/${next.removed}/restore`, { method: "POST" })));
  say(`Removed ${clip.name} from ${label === NONE ? "the background" : label}.`, { label: "Undo", act: back });
}

async function move(clip, label) {
  show(await tried(() => ask(`/api/clips/${clip.id}/move`, { method: "POST", query: { label } })));
}

/** Makes a class the one that is recorded. */
function teach(label) {
  byId("background").checked = label === NONE;
  byId("label").disabled = label === NONE;
  byId("label").value = label === NONE ? "" : label;
  byId("start-record").focus();
}

const label = () => (byId("background").checked ? NONE : byId("label").value.trim());

/** Records clips of a class, each after a countdown. */
async function recordClips() {
  if (!label()) {
    say("Type the name of the class first.", { error: true });
    byId("label").focus();
    return;
  }
  const seconds = Number(byId("seconds").value);
  const many = Number(byId("many").value);
  const asked = label();
  await withCamera(async () => {
    for (let k = 0; k < many && camera.isOn(); k += 1) {
      byId("said").textContent = `Clip ${k + 1} of ${many}: get ready`;
      await camera.countDown(k ? 2 : 3, () => !camera.isOn());
      if (!camera.isOn()) break;
      byId("said").textContent = `Clip ${k + 1} of ${many}: now`;
      const { blob, ending } = await camera.record(seconds);
      show(await ask("/api/clips", { method: "POST", query: { label: asked, ending }, body: blob }));
    }
    byId("said").textContent = `Recorded ${many === 1 ? "a clip" : `${many} clips`} of ${asked === NONE ? "the background" : asked}.`;
  });
}

async function recordQuery() {
  await withCamera(async () => {
    byId("said").textContent = "Get ready";
    await camera.countDown(3, () => !camera.isOn());
    if (!camera.isOn()) return;
    byId("said").textContent = "Now";
    const { blob, ending } = await camera.record(Number(byId("seconds").value));
    byId("said").textContent = "Naming it …";
    await nameClip(blob, "", ending);
    byId("said").textContent = "";
  });
}

/** Asks for the action of a clip, and shows the answer. */
async function nameClip(blob, name, ending = "webm") {
  const query = { name, ending };
  if (watching.chosen() !== null) query.threshold = watching.chosen();
  const answer = await ask("/api/match", { method: "POST", query, body: blob });
  const keep = async (asked) => {
    const next = await tried(() => ask("/api/clips", { method: "POST", query: { label: asked, name, ending }, body: blob }));
    show(next);
    if (next) say(`Added to ${asked}.`);
  };
  showAnswer(answer, name || "the recording", state, keep);
}

/** Runs what needs the camera; one such thing at a time. */
async function withCamera(act) {
  if (busy) return;
  busy = true;
  for (const id of ["start-record", "try-record"]) byId(id).disabled = true;
  await tried(async () => {
    if (!camera.isOn()) await camera.turnOn();
    await act();
  });
  if (byId("said").textContent.endsWith("…") || /now$|ready$/i.test(byId("said").textContent)) byId("said").textContent = "";
  for (const id of ["start-record", "try-record"]) byId(id).disabled = false;
  busy = false;
}

function chooses(button, input, take) {
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", async () => {
    const files = [...input.files];
    input.value = "";
    if (files.length) await take(files);
  });
}

const namesFile = ([file]) => tried(() => nameClip(file, file.name));

byId("camera").addEventListener("click", () => {
  if (camera.isOn()) { watching.stop(); camera.turnOff(); } else tried(() => camera.turnOn());
});
byId("cameras").addEventListener("change", (event) => tried(() => camera.turnOn(event.target.value)));
byId("record").addEventListener("submit", (event) => { event.preventDefault(); recordClips(); });
byId("background").addEventListener("change", (event) => { byId("label").disabled = event.target.checked; });
byId("try-record").addEventListener("click", recordQuery);
byId("copy").addEventListener("click", async () => {
  await tried(async () => {
    await navigator.clipboard.writeText(byId("commands").textContent);
    say("Copied.");
  });
});
chooses(byId("choose"), byId("files"), (files) => addFiles(label(), files));
chooses(byId("try-choose"), byId("try-file"), namesFile);
takesFiles(byId("drop"), (files) => addFiles(label(), files));
takesFiles(byId("try-drop"), namesFile);
// A file that is dropped beside the marked places must not replace the page.
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
addEventListener("hashchange", () => { showView(); showExport(); });
addEventListener("focus", async () => { if (!busy && !watching.isOn()) show(await tried(() => ask("/api/state"))); });

watching.begin(showExport);
restoreEvents();
showView();
show(await tried(() => ask("/api/state")));
