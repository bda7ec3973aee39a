// Watching the camera: frames go to the server, readings and events come back.

import * as camera from "./camera.js";
import { ask, byId, percent, say, showEvent, svg, tried, word } from "./common.js";

const FPS = 12;
const DOTS = 80;
const WIDTH = 800;
const HEIGHT = 120;
const KEPT = "mafsar-events";
const CHOSEN = "mafsar-threshold";

const ABOUT = "Each dot is a window: high is “none of the classes”. Only dots below the line count as an action, and only where as much changes as in its clips.";
const UNCALIBRATED = "This model is not calibrated to say “none”: every window counts as one of the classes.";

let session = null;
let readings = [];
let events = [];
let automatic = null; // the threshold of windows that the bank aims at
let calibrated = false;
let changing = 0;
let told = () => {};

const stored = sessionStorage.getItem(CHOSEN);
let own = stored === null ? null : Number(stored); // the user's own threshold

export const watching = {
  isOn: () => session !== null,
  chosen: () => own,
  stop,
  begin(onChange) {
    told = onChange;
    byId("watch-start").addEventListener("click", () => (session ? stop() : tried(start)));
    byId("threshold").addEventListener("input", (event) => choose(Number(event.target.value)));
    byId("automatic").addEventListener("click", () => choose(null));
    byId("clear-events").addEventListener("click", clearEvents);
  },
  show(state) {
    automatic = state.window_threshold;
    calibrated = state.calibrated;
    byId("threshold").disabled = byId("automatic").disabled = !calibrated;
    byId("chart").toggleAttribute("hidden", !calibrated);
    byId("threshold-about").textContent = calibrated ? ABOUT : UNCALIBRATED;
    byId("watch-start").disabled = state.classes.length === 0;
    drawThreshold();
  },
};

async function start() {
  if (!camera.isOn()) await camera.turnOn();
  const begun = await ask("/api/live", { method: "POST", query: { threshold: own ?? "auto" } });
  session = begun.id;
  readings = [];
  byId("watch-start").textContent = "Stop watching";
  byId("said").textContent = `Windows of ${begun.lengths.map((each) => `${each.toFixed(1)} s`).join(", ")}`;
  send(session);
}

/** Sends frames for as long as this session goes on. */
async function send(mine) {
  let since = 0;
  let failures = 0;
  while (session === mine) {
    const began = performance.now();
    try {
      const body = await camera.frame();
      const heard = await ask(`/api/live/${mine}/frame`, { method: "POST", query: { t: (began / 1000).toFixed(4), since }, body });
      since = heard.next;
      failures = 0;
      hear(heard.said);
      if (!heard.alive) throw new Error(heard.problem ?? "watching has ended");
    } catch (error) {
      failures += 1;
      if (session !== mine) return;
      if (failures >= 3 || !camera.isOn()) {
        say(error.message, { error: true });
        session = null;
        ended();
        return;
      }
    }
    await camera.wait(Math.max(0, 1 / FPS - (performance.now() - began) / 1000));
  }
  const last = await ask(`/api/live/${mine}`, { method: "DELETE", query: { since } }).catch(() => null);
  if (last) hear(last.said);
  ended();
}

function stop() {
  session = null;
}

function ended() {
  byId("watch-start").textContent = "Start watching";
  byId("said").textContent = "";
  byId("now").textContent = "–";
  byId("now").classList.remove("on");
}

function hear(said) {
  for (const each of said) {
    if (each.event === "reading") read(each);
    else if (each.event === "status") status(each);
    else event(each);
  }
}

function event(each) {
  const now = byId("now");
  if (each.event === "start") now.replaceChildren(word(each.label));
  else now.textContent = "–";
  now.classList.toggle("on", each.event === "start");
  events = [...events.filter((other) => other.id !== each.id), each].slice(-200);
  sessionStorage.setItem(KEPT, JSON.stringify(events));
  showEvent(byId("events"), each);
  byId("no-events").hidden = true;
}

function status(each) {
  if (each.state === "dark" || each.state === "frozen") byId("said").textContent = `The camera is ${each.state}.`;
  if (each.state === "back") byId("said").textContent = "";
  if (each.state === "refused") say(each.message, { error: true });
  if (own === null && each.threshold !== null && each.threshold !== undefined) automatic = each.threshold;
  drawThreshold();
}

function read(each) {
  byId("reading-label").replaceChildren(word(each.label));
  byId("reading-share").style.width = `${100 * each.score}%`;
  byId("reading-number").textContent = each.score.toFixed(2);
  byId("reading-none").textContent = each.p_none === null ? "" : `none of the classes: ${percent(each.p_none)}`;
  readings = [...readings, each].slice(-DOTS);
  draw();
}

/** The last windows as dots, newest at the right; the threshold as a line. */
function draw() {
  const limit = own ?? automatic;
  const shown = byId("chart").getBoundingClientRect(); // it is stretched; dots stay round
  const [rx, ry] = shown.width > 0 ? [4 * WIDTH / shown.width, 4 * HEIGHT / shown.height] : [4, 4];
  const dots = readings.filter((each) => each.p_none !== null).map((each, k, all) => svg("ellipse", {
    cx: WIDTH - 8 - (all.length - 1 - k) * ((WIDTH - 16) / DOTS), cy: at(each.p_none), rx, ry,
    class: limit !== null && each.p_none <= limit ? "in" : "",
  }));
  const line = limit === null ? [] : [svg("line", { x1: 0, x2: WIDTH, y1: at(limit), y2: at(limit) })];
  byId("chart").replaceChildren(...line, ...dots);
}

const at = (share) => HEIGHT - 6 - share * (HEIGHT - 12);

function choose(value) {
  own = value;
  if (own === null) sessionStorage.removeItem(CHOSEN);
  else sessionStorage.setItem(CHOSEN, String(own));
  drawThreshold();
  told();
  clearTimeout(changing);
  if (session) changing = setTimeout(() => tried(() => ask(`/api/live/${session}/threshold`, { method: "POST", query: { threshold: own ?? "auto" } })), 150);
}

function drawThreshold() {
  const limit = own ?? automatic;
  byId("threshold-number").textContent = limit === null ? "–" : limit.toFixed(2) + (own === null ? " (automatic)" : "");
  if (limit !== null) byId("threshold").value = String(limit);
  byId("automatic").setAttribute("aria-pressed", String(own === null));
  draw();
}

function clearEvents() {
  events = [];
  sessionStorage.removeItem(KEPT);
  byId("events").replaceChildren();
  byId("no-events").hidden = false;
}

/** Shows the events of before a reload again. */
export function restoreEvents() {
  try {
    events = JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
  } catch {
    events = [];
  }
  for (const each of events) showEvent(byId("events"), each);
  byId("no-events").hidden = events.length > 0;
}
