// What both pages share: making elements, asking the server, saying what went wrong.

/** An element. Attributes that begin with "on" are listeners; null and false are left out. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false || value === undefined) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** An SVG element. */
export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** A label of the user's, in its own direction. */
export const word = (text) => el("bdi", { dir: "auto" }, text);

/** A sentence of the program in which labels, as parts of paths, keep their own direction. */
export function sentence(text, labels) {
  const known = labels.filter((label) => /[^\x00-\x7f]/.test(label) && text.includes(label));
  if (!known.length) return [text];
  const longest = known.sort((a, b) => b.length - a.length)[0];
  return text.split(longest).flatMap((part, k) => [...(k ? [word(longest)] : []), ...sentence(part, labels)]);
}

export const byId = (id) => document.getElementById(id);

export const percent = (share) => `${Math.round(100 * share)} %`;

/** Asks the server; answers with its JSON, or throws what it says. */
export async function ask(path, { method = "GET", query = {}, body = null } = {}) {
  const words = new URLSearchParams(query).toString();
  let answer;
  try {
    answer = await fetch(words ? `${path}?${words}` : path, { method, body });
  } catch {
    throw new Error("mafsar does not answer; is it still running?");
  }
  const text = await answer.text();
  let document = null;
  try {
    document = JSON.parse(text);
  } catch {
    document = null;
  }
  if (!answer.ok) throw new Error(document?.error ?? (text.trim() || `error ${answer.status}`));
  return document;
}

let hiding = 0;

/** A line at the bottom for a while, with a button if there is something to do. */
export function say(text, { error = false, label = null, act = null } = {}) {
  const toast = byId("toast");
  clearTimeout(hiding);
  toast.className = error ? "toast error" : "toast";
  const button = label === null ? null : el("button", { type: "button", onclick: () => { toast.hidden = true; act(); } }, label);
  toast.replaceChildren(el("span", {}, text), ...(button ? [button] : []));
  toast.hidden = false;
  hiding = setTimeout(() => { toast.hidden = true; }, error ? 10000 : 6000);
}

/** Runs something, and says its error. */
export async function tried(act) {
  try {
    return await act();
  } catch (error) {
    say(error.message, { error: true });
    return undefined;
  }
}

/** One line of the table of events. */
export function eventRow(event, { source = false } = {}) {
  const seconds = event.t_end === null ? "…" : `${(event.t_end - event.t_start).toFixed(1)} s`;
  return el(
    "tr", { "data-id": event.id },
    source ? el("td", {}, word(event.region ? `${event.source}, ${event.region}` : event.source)) : null,
    el("td", {}, word(event.label)),
    el("td", { class: "n" }, clock(event.t_start)),
    el("td", { class: "n" }, seconds),
    el("td", { class: "n" }, event.score.toFixed(2)),
  );
}

/** Puts a start on top of a table, and an end in its start's place. */
export function showEvent(body, event, options = {}, most = 200) {
  const row = eventRow(event, options);
  const before = [...body.children].find((each) => each.dataset.id === event.id);
  if (before) before.replaceWith(row);
  else body.prepend(row);
  while (body.children.length > most) body.lastElementChild.remove();
}

/** 75.31 as 1:15.3 */
export function clock(seconds) {
  const minutes = Math.floor(seconds / 60);
  const rest = (seconds - 60 * minutes).toFixed(1);
  return minutes ? `${minutes}:${rest.padStart(4, "0")}` : `${rest} s`;
}
