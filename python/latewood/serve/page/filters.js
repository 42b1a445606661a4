// Rows of conditions on the fields that the index has, and the filter that they make.

import { isWhole } from "./ask.js";
import { make, option } from "./make.js";

const COMPARISONS = [["eq", "is"], ["ne", "is not"]];
const OF_KIND = {
  text: [...COMPARISONS, ["prefix", "begins with"], ["contains", "contains"]],
  number: [...COMPARISONS, ["gte", "at least"], ["lte", "at most"], ["gt", "above"], ["lt", "below"]],
  flag: COMPARISONS,
};
let count = 0;

// As it is written, for a script's own numbers end at 2^53.
const whole = (text) => (Number.isSafeInteger(Number(text)) ? Number(text) : JSON.rawJSON(BigInt(text)));

export class Filters {
  constructor(list, changed) {
    this.list = list;
    this.changed = changed;
    this.fields = [];
  }

  add(condition = null) {
    const names = this.fields.map((field) => field.name);
    if (condition && !names.includes(condition.field)) names.push(condition.field);
    const label = `condition ${++count}`;
    const field = make("select", { "aria-label": `Field of ${label}` }, ...names.map((name) => option(name)));
    const operator = make("select", { "aria-label": `Comparison of ${label}` });
    const choices = make("datalist", { id: `values-${count}` });
    const value = make("input", { "aria-label": `Value of ${label}`, list: choices.id, placeholder: "value" });
    const remove = make("button", { type: "button", "aria-label": `Remove ${label}` }, "×");
    const row = make("li", {}, field, operator, value, choices, remove);
    if (condition) field.value = condition.field;
    const offer = () => this.offer(field.value, operator, value, choices);
    field.addEventListener("change", () => {
      value.value = "";
      offer();
    });
    row.addEventListener("input", this.changed);
    row.addEventListener("change", this.changed);
    remove.addEventListener("click", () => {
      row.remove();
      this.changed();
      document.getElementById("add-filter").focus();
    });
    offer();
    if (condition) {
      operator.value = condition.operator;
      value.value = condition.value;
    }
    this.list.append(row);
    return field;
  }

  offer(name, operator, value, choices) {
    const field = this.fields.find((one) => one.name === name) ?? { kinds: ["text"], values: [] };
    const known = new Map(field.kinds.flatMap((kind) => OF_KIND[kind]));
    operator.replaceChildren(...[...known].map(([key, words]) => option(key, words)));
    choices.replaceChildren(...field.values.map((one) => option(String(one))));
    value.placeholder = field.least == null ? "value" : `${field.least} to ${field.most}`;
  }

  // Conditions as they stand; those without a value are still being written.
  get conditions() {
    return [...this.list.children].map((row) => {
      const [field, operator, value] = row.querySelectorAll("select, input");
      return { field: field.value, operator: operator.value, value: value.value.trim() };
    }).filter((condition) => condition.value !== "");
  }

  get value() {
    const all = this.conditions.map(({ field, operator, value }) => ({ [field]: { [operator]: this.typed(field, value) } }));
    return all.length > 1 ? { and: all } : all[0];
  }

  typed(name, value) {
    const kinds = this.fields.find((one) => one.name === name)?.kinds ?? ["text"];
    if (kinds.includes("flag") && ["true", "false"].includes(value)) return value === "true";
    if (kinds.includes("number") && isWhole(value)) return whole(value);
    if (kinds.includes("number") && Number.isFinite(Number(value))) return Number(value);
    return value;
  }
}
