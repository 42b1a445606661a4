// The picture of a hit, with its patches shaded by how near they are to the query token that is pointed at, or to any.

import { ask } from "./ask.js";
import { make } from "./make.js";

export async function showPictures(hit, index, id, patches) {
  const image = make("img", { alt: `Picture of ${id}` });
  const figure = make("figure", { class: "picture" }, image);
  hit.querySelector(".head").after(figure);
  try {
    const picture = await ask(`page/${index}/picture`, { id });
    image.src = `data:${picture.type};base64,${picture.base64}`;
  } catch (error) {
    figure.replaceChildren(make("figcaption", {}, error.message));
    return;
  }
  if (patches) shade(hit, figure, patches);
}

function shade(hit, figure, { rows, columns, near }) {
  const values = Uint8Array.from(atob(near), (byte) => byte.charCodeAt(0));
  const size = rows * columns;
  const canvas = make("canvas", { width: columns, height: rows, "aria-hidden": "true" });
  figure.append(canvas);
  const context = canvas.getContext("2d");
  const paint = (token) => {
    const shades = context.createImageData(columns, rows);
    for (let patch = 0; patch < size; patch += 1) {
      let value = 0;
      if (token === null) {
        for (let at = patch; at < values.length; at += size) value = Math.max(value, values[at]);
      } else {
        value = values[token * size + patch] ?? 0;
      }
      // Only what is near to the best shows.
      shades.data.set([255, 140, 0, 170 * (value / 255) ** 2], 4 * patch);
    }
    context.putImageData(shades, 0, 0);
  };
  paint(null);
  const pane = hit.closest(".pane");
  for (const event of ["pointerover", "focusin"]) {
    pane.addEventListener(event, ({ target }) => {
      if (!canvas.isConnected) return;
      const token = target.closest?.(".q, .bar rect")?.dataset.q;
      paint(token === undefined ? null : Number(token));
    });
  }
}
