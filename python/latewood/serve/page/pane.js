// One search with its settings and its hits. There are two of them where searches are compared.

import { ask } from "./ask.js";
import { howFound } from "./figures.js";
import { make, milliseconds, option } from "./make.js";
import { showPictures } from "./pictures.js";

export class Pane {
  constructor(indexes, settings, changed) {
    const copy = document.getElementById("pane").content.cloneNode(true);
    this.element = copy.firstElementChild;
    this.part = (selector) => this.element.querySelector(selector);
    this.controls = [...this.element.querySelectorAll(".choices select, .choices input")];
    const index = this.part("[name=index]");
    index.append(...indexes.map((one) => option(one.name)));
    this.part(".which").hidden = indexes.length < 2;
    for (const control of this.controls) {
      const value = settings[control.name];
      if (value === undefined) continue;
      // A field to group by is known only when the index has been asked.
      if (control.name === "group_by") control.append(option(value));
      if (control.type === "checkbox") control.checked = value === "true";
      else control.value = value;
    }
    if (!index.value) index.selectedIndex = 0;
    this.part(".choices").addEventListener("change", () => {
      this.tellChosen();
      changed();
    });
    this.tellChosen();
    // The renderer's own script: marks what a query token answers best.
    window.watch(this.element);
    for (const event of ["pointerover", "focusin"]) {
      this.element.addEventListener(event, ({ target }) => {
        if (target.closest?.(".q, .bar rect")) this.bringIntoSight();
      });
    }
  }

  get index() {
    return this.part("[name=index]").value;
  }

  // What differs from the default, by name.
  get settings() {
    const chosen = {};
    for (const control of this.controls) {
      const value = control.type === "checkbox" ? (control.checked ? "true" : "") : control.value;
      if (value !== "" && control.closest("label").hidden === false) chosen[control.name] = value;
    }
    return chosen;
  }

  // The same, as the service takes it.
  get options() {
    const { index, recall, max_scored, feedback, length_normalize, ...words } = this.settings;
    return {
      ...words,
      ...(recall && { recall: Number(recall) }),
      ...(max_scored && { max_scored: Number(max_scored) }),
      ...(feedback && { feedback: { mode: feedback } }),
      ...(length_normalize && { length_normalize: true }),
    };
  }

  tellChosen() {
    const { index, ...chosen } = this.settings;
    const words = Object.entries(chosen).map(([name, value]) => `${name.replaceAll("_", " ")} ${value === "true" ? "" : value}`.trim());
    this.part(".chosen").textContent = words.length ? `: ${words.join(", ")}` : "";
  }

  offerFields(fields) {
    const select = this.part("[name=group_by]");
    const { value } = select;
    select.replaceChildren(option("", "document"), ...fields.map((field) => option(field.name)));
    if (value && select.value !== value) select.append(option(value));
    select.value = value;
  }

  // Ask and show; the answer, or null where another question came meanwhile.
  async search(asked) {
    this.asking?.abort();
    const asking = new AbortController();
    this.asking = asking;
    this.element.setAttribute("aria-busy", "true");
    try {
      const answer = await ask(`page/${this.index}/hits`, { ...asked, ...this.options }, asking.signal);
      if (asking.signal.aborted) return null;
      this.show(answer);
      return answer;
    } catch (error) {
      if (asking.signal.aborted) return null;
      const problem = this.part(".problem");
      // What is told already is not told again, to who hears the page.
      if (problem.hidden || problem.textContent !== error.message) {
        this.clear();
        problem.textContent = error.message;
        problem.hidden = false;
      }
      return { error };
    } finally {
      if (this.asking === asking) this.element.removeAttribute("aria-busy");
    }
  }

  clear() {
    this.asking?.abort();
    this.element.removeAttribute("aria-busy");
    this.element.classList.remove("pointed");
    this.part(".found").replaceChildren();
    this.part(".problem").hidden = true;
    this.part(".compared").hidden = true;
    this.part(".how").hidden = true;
  }

  show(answer) {
    this.clear();
    const found = this.part(".found");
    // The service has escaped every text in it; it has no scripts, and none could run.
    found.innerHTML = answer.query + answer.hits;
    this.ids = answer.ids;
    this.hits = [...found.querySelectorAll(".hit")];
    this.hits.forEach((hit, place) => {
      hit.tabIndex = place === 0 ? 0 : -1;
      if (answer.pictures[place]) showPictures(hit, this.index, answer.ids[place], answer.pictures[place].patches);
    });
    this.hits.forEach((hit) => this.fold(hit));
    this.part(".figures").replaceChildren(...howFound(answer));
    if (answer.exact) {
      this.part(".compared").textContent = `Found ${answer.exact.found} of the exact top ${answer.exact.hits}.`;
      this.part(".compared").hidden = false;
    }
    const total = answer.seconds.search + answer.seconds.explain;
    this.part(".took").textContent = ` – ${answer.plan.gather}, ${milliseconds(total)}`;
    this.part(".how").hidden = false;
  }

  // A long text shows its beginning, until it is opened or a query token's best answer lies further down.
  fold(hit) {
    const text = hit.querySelector(".text");
    // It does not scroll here, and is no stop for the keyboard.
    text?.removeAttribute("tabindex");
    if (!text || text.scrollHeight <= text.clientHeight + 2) return;
    const open = make("button", { type: "button", class: "open", "aria-expanded": "false" }, "Whole text");
    open.addEventListener("click", () => {
      const opened = hit.classList.toggle("opened");
      open.setAttribute("aria-expanded", opened);
      open.textContent = opened ? "Less" : "Whole text";
      text.scrollTop = 0;
    });
    text.after(open);
  }

  bringIntoSight() {
    for (const mark of this.element.querySelectorAll(".text mark.on")) {
      const text = mark.closest(".text");
      const above = mark.getBoundingClientRect().top - text.getBoundingClientRect().top;
      if (above < 0 || above + mark.offsetHeight > text.clientHeight) {
        text.scrollTop += above - text.clientHeight / 2;
      }
    }
  }

  // Say of each hit where it was in another list.
  tellMoves(others, side) {
    this.hits?.forEach((hit, place) => {
      const before = others.indexOf(this.ids[place]);
      const by = before - place;
      const [sign, words] = before < 0 ? ["new", `not on the ${side}`]
        : by === 0 ? ["=", `at the same place on the ${side}`]
          : [`${by > 0 ? "▲" : "▼"} ${Math.abs(by)}`, `${Math.abs(by)} ${by > 0 ? "higher" : "lower"} than on the ${side}`];
      const kind = before < 0 ? "new" : by > 0 ? "up" : by < 0 ? "down" : "same";
      const told = make("span", { class: `moved ${kind}`, title: words },
        make("span", { "aria-hidden": "true" }, sign), make("span", { class: "heard" }, words));
      hit.querySelector(".moved")?.remove();
      hit.querySelector(".head").append(told);
    });
  }
}
