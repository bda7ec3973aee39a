// The classes of the support with their clips, and what is said of them.

import { byId, el, sentence, word } from "./common.js";
import { takesFiles } from "./drop.js";

const NONE = "_none";

/** Shows verdict and classes. `acts`: remove, move, addFiles, teach. */
export function showClasses(state, acts) {
  showVerdict(state);
  const focused = document.activeElement?.dataset?.key;
  const cards = state.classes.map((item) => classCard(item, state, acts));
  if (state.none_clips.length) cards.push(classCard({ label: NONE, clips: state.none_clips }, state, acts));
  byId("classes").replaceChildren(...cards);
  if (focused) byId("classes").querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

function showVerdict(state) {
  const clips = state.classes.reduce((sum, item) => sum + item.clips.length, 0);
  let headline = "Teach the first action";
  if (state.problem) headline = "This folder cannot be enrolled";
  else if (state.verdict) headline = state.verdict[0].toUpperCase() + state.verdict.slice(1);
  const lines = state.problem ? [state.problem] : [...state.advice, ...state.notes];
  if (!clips && !state.problem) lines.push("Name a class, turn the camera on, and record three clips of it. Then do the same for another one.");
  const labels = state.classes.map((item) => item.label);
  const tone = { apart: "good", chance: "bad" }[state.kind] ?? "";
  byId("verdict").replaceChildren(
    el("h2", { class: state.problem ? "bad" : tone }, ...sentence(headline, labels)),
    el("ul", { class: "lines small" }, ...lines.map((line) => el("li", {}, ...sentence(line, labels)))),
  );
}

function classCard({ label, clips }, state, acts) {
  const judged = clips.filter((clip) => typeof clip.right === "boolean");
  const right = judged.filter((clip) => clip.right).length;
  const count = `${clips.length} clip${clips.length === 1 ? "" : "s"}${judged.length ? `, ${right} right when left out` : ""}`;
  const title = label === NONE ? "Nothing happens (background)" : label;
  const card = el(
    "section", { class: "card class", "data-label": label, "aria-label": title },
    el("div", { class: "head" },
      el("h2", {}, word(title)),
      el("span", { class: "small muted" }, count),
      el("button", { type: "button", class: "plain", "data-key": `more-${label}`, onclick: () => acts.teach(label) }, "Record more"),
    ),
    el("div", { class: "clips" }, ...clips.map((clip) => clipCard(clip, label, state, acts))),
  );
  takesFiles(card, (files) => acts.addFiles(label, files));
  return card;
}

function clipCard(clip, label, state, acts) {
  const labels = [...state.classes.map((item) => item.label), NONE].filter((each) => each !== label);
  const to = el("select", { "aria-label": `Move ${clip.name} to another class`, "data-key": `move-${clip.id}`, onchange: (event) => event.target.value && acts.move(clip, event.target.value) },
    el("option", { value: "" }, "move …"),
    ...labels.map((each) => el("option", { value: each }, each === NONE ? "background" : each)));
  const bad = clip.hurts || clip.right === false || clip.left_out;
  return el(
    "div", { class: bad ? "clip wrong" : "clip", "data-clip": clip.name },
    clip.left_out ? el("div", { class: "strip" }) : el("img", { class: "strip", src: `/api/clips/${clip.id}/strip`, alt: `Frames of ${clip.name}`, loading: "lazy" }),
    el("div", {},
      el("p", { class: "small" }, el("span", { class: "name" }, word(clip.name)), clip.seconds ? el("span", { class: "muted number" }, `  ${clip.seconds.toFixed(1)} s`) : null),
      ...verdicts(clip, label, state.classes.map((item) => item.label)).map(([tone, ...parts]) => el("p", { class: `small ${tone}` }, ...parts)),
      el("div", { class: "tools" },
        clip.file ? el("button", { type: "button", class: "plain", "data-key": `play-${clip.id}`, "aria-label": `Play ${clip.name}`, onclick: () => play(clip) }, "Play") : null,
        el("button", { type: "button", class: "plain", "data-key": `remove-${clip.id}`, "aria-label": `Remove ${clip.name}`, onclick: () => acts.remove(clip, label) }, "Remove"),
        to),
    ),
  );
}

/** What the other clips say of one. */
function verdicts(clip, label, labels) {
  if (clip.left_out) return [["bad", clip.left_out]];
  if (label === NONE) return [];
  const lines = [];
  if (clip.right === true) lines.push(["good", "named correctly by the others"]);
  else if (clip.right === false) lines.push(["bad", "the others take it for ", word(clip.answer)]);
  else lines.push(["muted", "the only clip, cannot be tested"]);
  if (clip.hurts) lines.push(["bad", `hurts: without it ${clip.gain} more of the others ${clip.gain === 1 ? "is" : "are"} right`]);
  if (clip.twin) lines.push(["warn", "also in another class, as ", ...sentence(clip.twin, labels)]);
  return lines;
}

function play(clip) {
  const video = byId("clip-video");
  video.src = `/api/clips/${clip.id}/file`;
  byId("player").setAttribute("aria-label", clip.name);
  byId("player").showModal();
  video.play().catch(() => {});
}

byId("player").addEventListener("close", () => {
  const video = byId("clip-video");
  video.pause();
  video.removeAttribute("src");
  video.load();
});
