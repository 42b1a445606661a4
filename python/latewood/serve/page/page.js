// The page: what is asked follows what is typed and chosen, and the address keeps it.

import { ask, NoAnswer } from "./ask.js";
import { aboutIndex } from "./figures.js";
import { Filters } from "./filters.js";
import { counts, make } from "./make.js";
import { Pane } from "./pane.js";

// Milliseconds without a key before the service is asked.
const PAUSE = 30;
// Milliseconds before a service that does not answer is asked again.
const RETRY = 2000;
// Hits whose best answers are told in words.
const SPOKEN = 5;
const byId = (id) => document.getElementById(id);
const [query, count, compare, panesElement, status] = ["query", "k", "compare", "panes", "status"].map(byId);

let indexes = [];
let panes = [];
let waiting = null;
let round = 0;
let counted = "";
let entered = null;
const filters = new Filters(byId("filters"), () => later());

// What the address keeps; but for the query, if one was typed already.
async function read(typed = "") {
  const kept = new URLSearchParams(location.hash.slice(1));
  // An address may have been written by hand.
  const listed = (name) => {
    try {
      const list = JSON.parse(kept.get(name));
      return Array.isArray(list) ? list.filter((one) => one instanceof Object) : [];
    } catch {
      return [];
    }
  };
  query.value = typed || (kept.get("q") ?? "");
  count.value = kept.get("k") ?? 10;
  const settings = listed("settings").slice(0, 2);
  compare.checked = settings.length > 1;
  setPanes(settings.length ? settings : [{}]);
  // A condition is read by the kind of its field.
  await learnFields();
  byId("filters").replaceChildren();
  for (const condition of listed("filters")) filters.add(condition);
  search();
}

function keep() {
  const kept = new URLSearchParams({ q: query.value });
  if (count.value !== "10") kept.set("k", count.value);
  if (filters.conditions.length) kept.set("filters", JSON.stringify(filters.conditions));
  const settings = panes.map((pane) => pane.settings);
  if (settings.length > 1 || Object.keys(settings[0]).length) kept.set("settings", JSON.stringify(settings));
  // What was entered can be gone back to; what is only typed cannot.
  const goesOn = location.hash === entered && `#${kept}` !== entered;
  history[goesOn ? "pushState" : "replaceState"](null, "", `#${kept}`);
  document.title = query.value.trim() ? `${query.value.trim()} · latewood` : "latewood";
}

function setPanes(settings) {
  panes = settings.map((one) => new Pane(indexes, one, chosen));
  panes.forEach((pane, place) => {
    if (settings.length > 1) pane.element.setAttribute("aria-label", place ? "Right" : "Left");
    else pane.element.setAttribute("aria-label", "Hits");
  });
  panesElement.replaceChildren(...panes.map((pane) => pane.element));
  panesElement.classList.toggle("two", panes.length > 1);
  for (const pane of panes) pane.offerFields(filters.fields);
}

// Another index may have other fields.
function chosen() {
  return tellTrouble(learnFields().then(search));
}

const known = new Map();
const fieldsOf = (name) => known.get(name)?.fields ?? [];
const shown = () => [...new Set(panes.map((pane) => pane.index))];

// Ask for fields that are not known yet, or only of a commit before the newest.
async function learnFields(generations = {}) {
  const unknown = shown().filter((name) => !known.has(name));
  const moved = shown().filter((name) => known.has(name) && known.get(name).generation !== (generations[name] ?? known.get(name).generation));
  await Promise.all([...unknown, ...moved].map(async (name) => known.set(name, await ask(`page/${name}/fields`))));
  // There may be more documents by now.
  if (moved.length) await learnIndexes();
  // Other indexes may have been chosen meanwhile, of which the next answer tells.
  const all = shown().flatMap(fieldsOf);
  filters.fields = all.filter((field, place) => all.findIndex((other) => other.name === field.name) === place);
  byId("add-filter").hidden = filters.fields.length === 0;
  panes.forEach((pane) => pane.offerFields(fieldsOf(pane.index)));
}

function later() {
  clearTimeout(waiting);
  waiting = setTimeout(search, PAUSE);
}

async function search() {
  clearTimeout(waiting);
  // The page has not come so far yet.
  if (!panes.length) return;
  keep();
  const own = ++round;
  if (!query.value.trim() || !count.validity.valid) {
    panes.forEach((pane) => pane.clear());
    status.textContent = count.validity.valid ? "" : "The number of hits must be from 1 to 100.";
    return;
  }
  const asked = { query: query.value, k: Number(count.value), filter: filters.value, exact: panes.length > 1 };
  const answers = await Promise.all(panes.map((pane) => pane.search(asked)));
  // Somebody has typed on.
  if (own !== round) return;
  tell(answers);
  if (answers.some((answer) => answer?.error instanceof NoAnswer)) {
    waiting = setTimeout(search, RETRY);
    return;
  }
  tellTrouble(learnFields(Object.fromEntries(panes.map((pane, place) => [pane.index, answers[place]?.generation]))));
  if (panes.length < 2 || answers.some((answer) => !answer || answer.error)) return;
  panes[0].tellMoves(answers[1].ids, "right");
  panes[1].tellMoves(answers[0].ids, "left");
}

// What a token that has the focus finds, in words too: shades say nothing to who hears the page.
function tellMatches(token, pane) {
  const matches = [...pane.querySelectorAll(".hit")].slice(0, SPOKEN).map((hit) => hit.querySelector("mark.on")?.textContent);
  status.textContent = `${token.textContent} is answered best by ${matches.filter(Boolean).join(", ")}`;
}

async function tellTrouble(work) {
  try {
    await work;
  } catch (error) {
    status.textContent = error.message;
  }
}

function tell(answers) {
  counted = words(answers);
  if (status.textContent !== counted) status.textContent = counted;
}

function words(answers) {
  const each = answers.map((answer) => (!answer || answer.error ? "no answer" : answer.ids.length
    ? counts(answer.ids.length, "hit") : "nothing found"));
  return each.length > 1 ? `Left: ${each[0]}. Right: ${each[1]}.` : each[0];
}

// ── keys: everything can be reached with Tab; arrows are quicker ──

const among = (elements, from, step) => elements[Math.min(Math.max(elements.indexOf(from) + step, 0), elements.length - 1)];

document.addEventListener("keydown", (event) => {
  const { key, target } = event;
  if (document.querySelector("dialog[open]") || event.isComposing) return;
  if (key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    query.select();
  } else if (key === "ArrowDown" && target === query) {
    const first = document.querySelector(".hit");
    if (first) {
      event.preventDefault();
      first.focus();
    }
  } else if ((key === "ArrowDown" || key === "ArrowUp") && target.matches(".hit")) {
    event.preventDefault();
    const all = [...target.closest(".hits").querySelectorAll(".hit")];
    if (key === "ArrowUp" && all[0] === target) query.focus();
    else move(all, among(all, target, key === "ArrowDown" ? 1 : -1));
  } else if ((key === "ArrowRight" || key === "ArrowLeft") && target.matches(".q")) {
    event.preventDefault();
    among([...target.parentElement.querySelectorAll(".q")], target, key === "ArrowRight" ? 1 : -1).focus();
  } else if (key === "Escape" && target.closest(".found")) {
    query.focus();
  }
});

function move(all, to) {
  for (const one of all) one.tabIndex = one === to ? 0 : -1;
  to.focus();
}

// ── the rest of the page ──

panesElement.addEventListener("focusin", ({ target }) => {
  if (target.matches(".q")) tellMatches(target, target.closest(".pane"));
});
panesElement.addEventListener("focusout", ({ target }) => {
  if (target.matches(".q")) status.textContent = counted;
});

query.addEventListener("input", (event) => {
  // While a word is being composed, it is not there yet.
  if (!event.isComposing) later();
});
query.addEventListener("compositionend", later);
count.addEventListener("input", later);
// With Enter, or when the box is left.
query.addEventListener("change", () => {
  if (!panes.length) return;
  keep();
  entered = location.hash;
});
byId("add-filter").addEventListener("click", () => filters.add().focus());
compare.addEventListener("change", () => {
  const settings = panes.map((pane) => pane.settings);
  const other = indexes.find((one) => one.name !== panes[0].index);
  // Two sides that are alike show nothing: the right one begins with another index, or with an exact search.
  setPanes(compare.checked ? [settings[0], other ? { ...settings[0], index: other.name } : { ...settings[0], gather: "exact" }]
    : settings.slice(0, 1));
  chosen();
});
byId("open-about").addEventListener("click", async () => {
  const body = byId("about-body");
  body.replaceChildren("Reading …");
  byId("about").showModal();
  // One that cannot be read hides no other.
  body.replaceChildren(...await Promise.all(indexes.map((one) => aboutIndex(one.name).catch(
    (error) => make("p", { class: "problem" }, `${one.name}: ${error.message}`)))));
});
window.addEventListener("hashchange", () => tellTrouble(read()));

async function learnIndexes() {
  ({ indexes } = await ask("v1/indexes"));
  byId("holds").textContent = indexes.map((one) => `${one.name}: ${one.problem ?? counts(one.documents, "document")}`).join(" · ")
    || "This service has no index: it reranks texts at /v1/rerank.";
}

async function begin() {
  await learnIndexes();
  byId("ask").hidden = byId("open-about").hidden = indexes.length === 0;
  if (!indexes.length) return;
  await read(query.value);
  query.focus();
}

tellTrouble(begin());
