// The page of `watch --serve`: asks twice a second for events and states; the pictures come by themselves.

import { ask, byId, clock, el, say, showEvent, word } from "./common.js";

const SECONDS = 0.5;
let since = 0;
let shown = "";
let failures = 0;

/** A card for each source, made once. */
function makeSources(sources) {
  const names = sources.map((source) => source.name).join("\n");
  if (names === shown) return;
  shown = names;
  if (sources.length > 1) byId("table").classList.remove("single");
  byId("sources").replaceChildren(...sources.map((source, k) => el(
    "div", { class: "card", "data-source": k },
    el("div", { class: "head" }, el("h2", {}, word(source.name)), el("span", { class: "chip" }, source.state)),
    el("img", { class: "live", src: `/video/${k}`, alt: `Picture of ${source.name}` }),
    el("p", { class: "now", role: "status" }, "–"),
    el("p", { class: "small muted number facts" }),
  )));
}

function showSource(source, k) {
  const card = byId("sources").children[k];
  card.querySelector(".chip").textContent = source.state;
  card.querySelector(".chip").classList.toggle("bad", ["lost", "dark", "frozen"].includes(source.state));
  const now = card.querySelector(".now");
  const names = source.active.map((each) => (each.region ? `${each.region}: ${each.label}` : each.label));
  const text = names.join(", ") || "–";
  if (now.textContent !== text) now.replaceChildren(word(text));
  now.classList.toggle("on", names.length > 0);
  const facts = [];
  if (source.fps !== null) facts.push(`${source.fps.toFixed(1)} frames a second`);
  if (source.delay_seconds !== null) facts.push(`answers after ${source.delay_seconds.toFixed(2)} s`);
  if (source.dropped) facts.push(`${source.dropped} windows dropped`);
  if (source.message) facts.push(source.message);
  card.querySelector(".facts").textContent = facts.join(" · ");
}

async function turn() {
  try {
    const state = await ask("/api/state");
    makeSources(state.sources);
    state.sources.forEach(showSource);
    byId("where").textContent = state.classes.length > 8 ? `${state.classes.length} classes` : state.classes.join(", ");
    byId("health").textContent = `up ${clock(state.up_seconds)} · ${state.windows} windows · ${clock(state.watched_seconds)} watched`;
    const heard = await ask("/api/events", { query: { since } });
    since = heard.next;
    if (heard.said.some((event) => event.region)) byId("table").classList.remove("single");
    for (const event of heard.said) showEvent(byId("events"), event, { source: true });
    if (heard.said.length) byId("no-events").hidden = true;
    failures = 0;
  } catch (error) {
    failures += 1;
    if (failures === 3) say(error.message, { error: true });
  }
  setTimeout(turn, 1000 * SECONDS * (failures ? 4 : 1));
}

turn();
