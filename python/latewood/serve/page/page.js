"use strict";
// The page of a service: it asks for what is typed, and puts in the fragments that the server has made and escaped.

const DELAY = 40;
const MANY = 20;
const byId = (id) => document.getElementById(id);
const columns = [];
let indexes = [];

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

async function ask(path, body, signal) {
  const headers = {};
  const token = sessionStorage.getItem("token");
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, {
    method: body === undefined ? "GET" : "POST", headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (answer.status === 401) byId("token-row").hidden = false;
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.detail);
  return told;
}

function trouble(error) {
  if (error?.name !== "AbortError") byId("problem").textContent = error ? error.message : "";
}

// What the fields and the line of JSON ask for together.
function chosenFilter() {
  const parts = [];
  for (const select of byId("fields").querySelectorAll("select")) {
    if (select.value) parts.push({ [select.dataset.field]: JSON.parse(select.value) });
  }
  const written = byId("filter").value.trim();
  if (written) parts.push(JSON.parse(written));
  return parts.length > 1 ? { and: parts } : parts[0];
}

class Column {
  constructor() {
    this.element = byId("column").content.firstElementChild.cloneNode(true);
    this.part = (name) => this.element.querySelector(`.${name}`);
    this.ids = [];
    for (const { name } of indexes) this.part("index").append(make("option", name));
    this.part("settings").addEventListener("change", (event) => {
      if (event.target === this.part("index")) { this.tell(); fields(); }
      search();
    });
    this.part("about").addEventListener("toggle", () => this.tell());
    this.part("check").addEventListener("click", () => this.check());
    watch(this.element);
  }

  body() {
    const recall = Number(this.part("recall").value);
    return {
      index: this.part("index").value,
      query: byId("query").value,
      k: Number(byId("k").value) || 10,
      exact: columns.length > 1,
      filter: chosenFilter(),
      gather: this.part("gather").value || undefined,
      recall: recall > 0 ? recall : undefined,
      rescore: this.part("rescored").checked ? undefined : "off",
    };
  }

  // Answers that come late, after something else was asked, are dropped.
  async search() {
    this.waiting?.abort();
    this.waiting = new AbortController();
    const body = this.body();
    if (!body.query.trim() || !body.index) { this.show(null); return; }
    const begun = performance.now();
    this.show(await ask("/page/search", body, this.waiting.signal), performance.now() - begun);
  }

  show(answer, milliseconds) {
    this.ids = answer ? answer.ids : [];
    this.part("asked").innerHTML = answer ? answer.query : "";
    this.part("results").innerHTML = answer ? answer.html : "";
    this.part("status").textContent = "";
    if (!answer) return;
    const count = answer.ids.length;
    const exact = answer.exact === null ? "" : `, ${answer.exact} of the exact top ${answer.asked}`;
    this.part("status").textContent =
      `${count} ${count === 1 ? "hit" : "hits"} by ${answer.plan.gather}${exact}, ${milliseconds.toFixed(0)} ms`;
    for (const hit of this.element.querySelectorAll(".hit")) hit.tabIndex = -1;
    this.stages(answer);
  }

  stages(answer) {
    const box = this.part("stages");
    box.replaceChildren();
    const taken = Object.entries(answer.stats).filter(([name, value]) => name.endsWith("_s") && value > 0);
    const most = Math.max(...taken.map(([, value]) => value), 1e-9);
    for (const [name, value] of taken) {
      const space = "http://www.w3.org/2000/svg";
      const svg = document.createElementNS(space, "svg");
      svg.setAttribute("viewBox", "0 0 100 10");
      svg.setAttribute("preserveAspectRatio", "none");
      svg.setAttribute("aria-hidden", "true");
      const bar = document.createElementNS(space, "rect");
      bar.setAttribute("width", String((100 * value) / most));
      bar.setAttribute("height", "10");
      svg.append(bar);
      box.append(make("span", name.slice(0, -2)), svg, make("span", `${(1e3 * value).toFixed(2)} ms`, { class: "ms" }));
    }
    const plan = Object.entries(answer.plan).filter(([, value]) => value !== null && value.length !== 0);
    const counts = Object.entries(answer.stats).filter(([name, value]) => !name.endsWith("_s") && value > 0);
    rows(this.part("told"), [...plan, ...counts]);
  }

  async tell() {
    const name = this.part("index").value;
    if (!this.part("about").open || !name) return;
    try {
      const told = await ask(`/v1/indexes/${encodeURIComponent(name)}`);
      rows(this.part("info"), Object.entries(told).filter(([, value]) => value !== null));
    } catch (error) { trouble(error); }
  }

  async check() {
    const health = this.part("health");
    health.textContent = "reading…";
    try {
      const { problems } = await ask(`/v1/indexes/${encodeURIComponent(this.part("index").value)}/check`, {});
      health.textContent = problems.length ? problems.join("; ") : "everything is as it was written";
    } catch (error) { health.textContent = ""; trouble(error); }
  }
}

function inWords(value) {
  if (Array.isArray(value)) return value.map(inWords).join(", ");
  if (value === null || typeof value !== "object") return String(value);
  const known = Object.entries(value).filter(([, one]) => one !== null);
  return known.map(([name, one]) => `${name.replaceAll("_", " ")} ${inWords(one)}`).join(", ");
}

function rows(list, entries) {
  list.replaceChildren();
  for (const [name, value] of entries) {
    list.append(make("dt", name.replaceAll("_", " ")), make("dd", inWords(value)));
  }
}

// Says of each hit of the second column where the first has it.
function moved() {
  const [first, second] = columns;
  if (!second) return;
  for (const hit of second.element.querySelectorAll(".hit")) {
    const place = [...hit.parentElement.children].indexOf(hit);
    const before = first.ids.findIndex((id) => id === second.ids[place]);
    const change = before - place;
    const text = before < 0 ? "only here" : change > 0 ? `▲ ${change}` : change < 0 ? `▼ ${-change}` : "=";
    hit.querySelector(".head").append(make("span", text, { class: "moved", title: "against the results beside" }));
  }
}

let timer;
function search() {
  clearTimeout(timer);
  timer = setTimeout(async () => {
    const address = new URL(location.href);
    address.searchParams.set("q", byId("query").value);
    history.replaceState(null, "", address);
    try {
      await Promise.all(columns.map((column) => column.search()));
      trouble(null);
      moved();
    } catch (error) { trouble(error instanceof SyntaxError ? new Error("the filter is no JSON") : error); }
  }, DELAY);
}

// Offers the fields that the documents of the first column's index have.
async function fields() {
  const name = columns[0]?.part("index").value;
  if (!name) return;
  const told = await ask(`/page/fields`, { index: name });
  byId("fields").replaceChildren();
  for (const { field, values } of told.fields) {
    if (values.length > MANY) continue;
    const label = make("label", `${field} `);
    const select = make("select", undefined, { "data-field": field });
    select.append(make("option", "any", { value: "" }));
    for (const value of values) select.append(make("option", String(value), { value: JSON.stringify(value) }));
    label.append(select);
    byId("fields").append(label);
  }
  byId("filters").hidden = told.fields.length === 0;
}

function compare() {
  const wanted = byId("compare").checked ? 2 : 1;
  while (columns.length > wanted) columns.pop().element.remove();
  while (columns.length < wanted) {
    const column = new Column();
    columns.push(column);
    byId("columns").append(column.element);
  }
  document.body.classList.toggle("two", wanted === 2);
  search();
}

function keys(event) {
  const typing = event.target.matches("input:not([type=checkbox]), select");
  if (event.key === "/" && !typing) { event.preventDefault(); byId("query").focus(); return; }
  if (event.key === "Escape" && event.target.closest(".hit, .asked")) { byId("query").focus(); return; }
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  if (typing && event.target !== byId("query")) return;
  if (event.target.closest(".text")) return;
  const hits = [...document.querySelectorAll(".hit")];
  const next = hits[hits.indexOf(document.activeElement.closest(".hit")) + (event.key === "ArrowDown" ? 1 : -1)];
  if (next) { event.preventDefault(); next.focus(); next.scrollIntoView({ block: "nearest" }); }
}

async function begin() {
  byId("problem").textContent = "";
  try {
    indexes = (await ask("/v1/indexes")).indexes;
    byId("token-row").hidden = true;
    if (!indexes.length) throw new Error("this service has no index; it reranks texts at /v1/rerank");
    byId("query").value = new URL(location.href).searchParams.get("q") ?? byId("query").value;
    compare();
    await fields();
  } catch (error) { trouble(error); }
}

byId("search").addEventListener("submit", (event) => { event.preventDefault(); search(); });
byId("query").addEventListener("input", search);
byId("k").addEventListener("input", search);
byId("filters").addEventListener("input", search);
byId("compare").addEventListener("change", compare);
byId("token").addEventListener("change", (event) => { sessionStorage.setItem("token", event.target.value); begin(); });
document.addEventListener("keydown", keys);
begin();
