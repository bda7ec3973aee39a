// The answer to one clip: shares, and which frames were paired with which.

import { byId, el, svg, word } from "./common.js";

const TILE = 100;
const BAND = 90;
const FAINTEST = 0.04;

/** Shows an answer. `keep(label)` adds the clip to a class. */
export function showAnswer(answer, name, state, keep) {
  const best = answer.topk[0];
  const headline = answer.none ? el("span", {}, "none of the classes (nearest: ", word(best.label), ")") : word(answer.label);
  const facts = [`${answer.seconds.total.toFixed(2)} s`];
  if (answer.p_none !== null) facts.unshift(`probability of none ${answer.p_none.toFixed(2)}${answer.threshold === null ? "" : `, threshold ${answer.threshold.toFixed(2)}`}`);
  const card = byId("answer");
  card.replaceChildren(
    el("div", { class: "head" }, el("h2", { id: "answer-label" }, headline), el("span", { class: "small muted name" }, word(name))),
    alignment(answer.shown),
    el("p", { class: "small muted" }, "Above this clip, below the nearest clip of ", word(answer.shown.support_label), ", ", word(answer.shown.support_name), ". The stronger a line, the more the two frames are paired."),
    bars(answer.topk),
    el("p", { class: "small muted number" }, `${facts.join(" · ")} · shares of the given classes sum to 1; they are not the chance of being right`),
    ...(answer.warning ? [el("p", { class: "small warn" }, word(answer.warning))] : []),
    keeper(state, best.label, keep),
  );
  card.hidden = false;
}

function bars(rows) {
  const made = el("div", { class: "bars" });
  rows.forEach((row, k) => {
    const fill = el("i");
    fill.style.width = `${100 * row.score}%`;
    made.append(el("span", { class: "name" }, word(row.label)), el("span", { class: k ? "track" : "track first" }, fill), el("span", { class: "small number" }, row.score.toFixed(2)));
  });
  return made;
}

/** Both clips' frames, joined by their soft alignment. */
function alignment(shown) {
  const rows = shown.weights.length;
  const columns = shown.weights[0].length;
  const height = 2 * TILE + BAND;
  const picture = svg("svg", {
    class: "tiles", viewBox: `0 0 ${TILE * Math.max(rows, columns)} ${height}`, role: "img",
    "aria-label": `Frames of this clip above those of ${shown.support_name}, joined where they are paired`,
  });
  const place = { preserveAspectRatio: "none", height: TILE, x: 0 };
  picture.append(
    svg("image", { ...place, href: shown.query, y: 0, width: TILE * rows }),
    svg("image", { ...place, href: shown.support, y: TILE + BAND, width: TILE * columns }),
  );
  const pairs = shown.weights.flatMap((row, i) => row.map((weight, j) => ({ i, j, weight })));
  for (const { i, j, weight } of pairs.filter((pair) => pair.weight >= FAINTEST).sort((a, b) => a.weight - b.weight)) {
    const [x, y] = [TILE * (i + 0.5), TILE * (j + 0.5)];
    picture.append(svg("path", {
      d: `M ${x} ${TILE + 3} C ${x} ${TILE + BAND / 2} ${y} ${TILE + BAND / 2} ${y} ${TILE + BAND - 3}`,
      "stroke-opacity": (weight ** 2).toFixed(3), "stroke-width": (0.8 + 4 * weight).toFixed(2),
    }));
  }
  return picture;
}

function keeper(state, guess, keep) {
  const labels = state.classes.map((item) => item.label);
  const choice = el("select", { id: "keep-label" }, ...labels.map((each) => el("option", { value: each, selected: each === guess }, each)));
  return el("div", { class: "row" },
    el("label", { class: "field" }, "What was it?", choice),
    el("button", { type: "button", id: "keep", onclick: () => keep(choice.value) }, "Add it to this class"));
}
