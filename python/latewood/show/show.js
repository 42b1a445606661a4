// Marks the best answers of the query token that is pointed at or focused, in every hit below `root`.
function watch(root) {
  const mark = (place) => {
    root.classList.toggle("pointed", place !== null);
    for (const one of root.querySelectorAll("[data-q]")) {
      one.classList.toggle("on", place !== null && one.dataset.q.split(" ").includes(place));
    }
  };
  const place = (event) => event.target.closest?.(".q, .bar rect")?.dataset.q ?? null;
  root.addEventListener("pointerover", (event) => mark(place(event)));
  root.addEventListener("pointerleave", () => mark(null));
  root.addEventListener("focusin", (event) => mark(place(event)));
  root.addEventListener("focusout", () => mark(null));
  root.addEventListener("keydown", (event) => { if (event.key === "Escape") mark(null); });
}
