// Makes elements. Texts become text nodes, so that nothing in them is ever read as HTML.

export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

export function option(value, text = value) {
  const made = make("option", {}, String(text));
  made.value = value;
  return made;
}

export const number = (value, digits = 0) =>
  value == null ? "–" : value.toLocaleString("en", { maximumFractionDigits: digits });

export const counts = (count, what) => `${number(count)} ${what}${count === 1 ? "" : "s"}`;

export function bytes(count) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let step = 0;
  while (count >= 1000 && step < units.length - 1) {
    count /= 1000;
    step += 1;
  }
  return `${number(count, step ? 1 : 0)} ${units[step]}`;
}

export const milliseconds = (seconds) => `${number(1000 * seconds, seconds < 0.001 ? 3 : seconds < 0.01 ? 2 : 1)} ms`;

// Bars of shares of one whole, with a name and a figure each.
export function bars(rows, shown) {
  const most = Math.max(...rows.map(([, value]) => value), Number.MIN_VALUE);
  return make("table", { class: "bars" }, make("tbody", {}, ...rows.map(([name, value]) => {
    const bar = make("span", { class: "share" });
    bar.style.setProperty("--share", value / most);
    return make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, bar), make("td", {}, shown(value)));
  })));
}

export function terms(rows) {
  return make("dl", { class: "terms" }, ...rows.filter(([, value]) => value != null && value !== "").map(
    ([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}
