// What a search took and how it went; what an index holds.

import { ask } from "./ask.js";
import { bars, bytes, make, milliseconds, number, terms } from "./make.js";

const STAGES = [
  ["prepare_s", "prepare the query"],
  ["gather_s", "gather candidates"],
  ["prune_s", "prune them"],
  ["refine_s", "refine estimates"],
  ["score_s", "score on codes"],
  ["rescore_s", "score on kept vectors"],
  ["feedback_s", "choose feedback"],
  ["top_k_s", "choose the best"],
];

const SEGMENTS = 16; // More bars say no more.

export function howFound({ plan, stats, seconds }) {
  const stages = STAGES.filter(([key]) => stats[key] > 0).map(([key, name]) => [name, stats[key]]);
  const core = stages.reduce((sum, [, value]) => sum + value, 0);
  const rows = [["encode the query", Math.max(0, seconds.search - core)], ...stages, ["explain the hits", seconds.explain]];
  return [
    terms([
      ["candidates by", plan.gather],
      ["recall to expect", plan.expected_recall == null ? null : number(plan.expected_recall, 4)],
      ["cells for a query token", plan.probes == null ? null : number(plan.probes)],
      ["least score of a cell", plan.threshold == null ? null : number(plan.threshold, 3)],
      ["scored at most", plan.max_scored == null ? null : number(plan.max_scored)],
      ["gathered", number(stats.gathered)],
      ["scored", number(stats.scored)],
      ["tokens scored", number(stats.scored_tokens)],
      ["scores on", plan.rescore ? `kept vectors (${plan.rescore})` : "codes"],
      ["without effect", (plan.without_effect ?? []).join(", ")],
    ]),
    bars(rows, milliseconds),
  ];
}

export async function aboutIndex(name) {
  const info = await ask(`v1/indexes/${name}`);
  const { codec, encoder } = info;
  const result = make("p", { role: "status" });
  const check = make("button", { type: "button" }, "Check every byte");
  check.addEventListener("click", async () => {
    check.disabled = true;
    result.textContent = "Reading …";
    try {
      const { problems } = await ask(`v1/indexes/${name}/check`, {});
      result.replaceChildren(problems.length ? make("ul", {}, ...problems.map((problem) => make("li", {}, problem)))
        : "All files are whole.");
    } catch (error) {
      result.textContent = error.message;
    }
    check.disabled = false;
  });
  const sections = Object.entries(info.bytes_by_section).sort(([, left], [, right]) => right - left);
  const segments = info.by_segment.toSorted((left, right) => right.bytes - left.bytes).slice(0, SEGMENTS);
  const rest = info.segments - segments.length;
  return make("section", {},
    make("h3", {}, name),
    terms([
      ["documents", number(info.documents)],
      ["token vectors", `${number(info.tokens)} of ${info.dim} dimensions`],
      ["tokens a document", info.documents ? number(info.tokens / info.documents, 1) : null],
      ["cut documents", info.truncated_documents ? number(info.truncated_documents) : null],
      // An index that has held no vectors has none yet.
      ["codec", codec && `${codec.kind}, ${codec.bits} bits${codec.centroid_count ? `, ${number(codec.centroid_count)} centroids` : ""}`],
      ["kept vectors", info.keep_vectors ?? "none"],
      ["encoder", encoder?.name ?? encoder?.class ?? "none recorded"],
      ["size", `${bytes(info.bytes)}, ${number(info.bytes_per_token, 1)} bytes a token`],
    ]),
    make("h4", {}, "Health"),
    terms([
      ["generation", number(info.generation)],
      ["deleted documents", `${number(info.deleted_documents)}${info.deleted_documents ? ", until a merge or compact" : ""}`],
      ["drift", info.drift == null ? "not measured" : `${number(info.drift, 2)} times what the centroids left over when trained`],
      ["fde", info.fde ? `${info.fde.safe ? "safe" : "not safe"}: ${info.fde.reason}` : "none"],
    ]),
    make("p", {}, check), result,
    make("h4", {}, `${number(info.segments)} segment${info.segments === 1 ? "" : "s"}`),
    bars(segments.map((one) => [
      `${number(one.documents)} documents${one.deleted_documents ? `, ${number(one.deleted_documents)} deleted` : ""}`,
      one.bytes,
    ]), bytes),
    rest > 0 ? make("p", {}, `and ${number(rest)} smaller ones`) : null,
    make("h4", {}, "Where the bytes are"),
    bars(sections, bytes));
}
