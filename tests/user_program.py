"""A program as users write them: every public call, under `mypy --strict` and without a single expression of type Any.

`test_user_program.py` runs it, and has mypy read it. What is typed by Any itself, such as the arrays of numpy, is made
in `user_inputs.py`.
"""

from pathlib import Path

import latewood
from latewood import (
    FdeOptions,
    Feedback,
    Hit,
    Hits,
    Hybrid,
    Index,
    LexicalFirstStage,
    Plan,
    Reranker,
    SearchArrays,
    Stop,
    Tuning,
    TwoStage,
    TwoStageTuning,
    maxsim,
    maxsim_pairs,
    reciprocal_rank_fusion,
    to_ragged,
    weighted_fusion,
)
from latewood.encode import encode_documents, encode_queries, nano_en, pool_tokens
from latewood.errors import IndexExistsError, LatewoodError
from user_inputs import Passages, bm25, copied, first_stage, lexical, matrix, rows, run_of


def best(hits: Hits) -> Hit:
    """The first of the hits."""
    return hits[0]


def show(hits: Hits) -> list[str]:
    """A line for each hit."""
    plan: Plan = hits.plan
    lines = [f"{hit.rank} {hit.id} {hit.score:.3f} {hit.text}" for hit in hits]
    lines.append(
        f"by {plan.gather}, without effect: {', '.join(plan.without_effect)}; {hits.stats['scored']:.0f} scored"
    )
    return lines


def main(folder: Path) -> int:
    """Fill an index, ask it in every way, and change it; how many documents are left."""
    passages = Passages()
    index = Index.create(folder / "news", encoder=nano_en(), exist_ok=True)
    try:
        Index.create(folder / "news", dim=index.dim)
    except IndexExistsError:
        index = Index.create(folder / "news", encoder="latewood/nano-en", overwrite=True)
    index.add(passages.ids, texts=passages.texts, metadata=passages.metadata, on_empty="skip", long="windows")
    with index.writer(show_progress=False) as writer:
        writer.upsert(["rings"], texts=["A tree ring has an early part and a dense late part."])
        writer.update_metadata(["rings"], {"page": 1, "lang": "en"})
        writer.delete(["nobody"], missing="skip")

    query = "When does a tree form its dense wood?"
    hits = index.search(query, 2, filter={"lang": "en"}, group_by="page", offset=0, min_score=0.0)
    lines = show(hits)
    first = best(hits)
    explanation = first.explain()
    lines += [f"{token} {answer} {adds:.2f}" for token, answer, adds in explanation.rows()]
    with Stop(seconds=60) as stop:
        Stop.check()
        batch: list[Hits] = index.search_batch([query, "owls"], 2, filter=[{"lang": "en"}, None], gather="exact")
    assert not stop.stopped
    arrays: SearchArrays = index.search_arrays([query], 2, length_normalize=True)
    run = arrays.to_run(["q"])
    reranked: Hits = index.rerank(query, {"rings": 2.0, "owls": 1.0}, k=1, alpha=0.5, beta=2, missing="skip")
    many: list[Hits] = index.rerank_batch([query], [["rings", "owls"]], threads=1)
    counted = len(index.rerank_arrays([query], [["owls"]])) + len(index.rerank_run({"q": query}, run_of(run))["q"])
    score: float = index.explain(query, "rings").score
    recall: float = index.measure_recall([query], 2, probes=2)
    tuned: Tuning = index.tune([query], recall=0.9, k=2)
    lines += [f"{deviations} {share}" for deviations, share in tuned.curve]
    feedback = Feedback(documents=2, weight=0.2)
    try:
        index.search(query, feedback=feedback)
    except LatewoodError as error:
        lines.append(str(error))

    engine = TwoStage(first_stage, index, depth=10, fusion="rrf")
    lines += show(engine.search("dense wood", 1, filter={"lang": "en"}))
    lines += show(TwoStage(bm25(passages), index, fusion=0.7).search_batch(["owls"], 1)[0])
    less: TwoStageTuning = TwoStage(first_stage, index).tune([query, "owls"], k=1)
    lines.append(f"{less.chosen.scored:.1f} of {less.full.scored:.1f}")
    lines += show(Hybrid(index, LexicalFirstStage(index), depth=10).search("dense wood", 1))
    lines += show(lexical(index).search("dense wood", 1))
    lines.append(f"{rows(index)} {len(copied(index, folder))}")
    order = [hit["corpus_id"] for hit in Reranker(long="cut").rank(query, passages.texts, top_k=1)]
    fused = reciprocal_rank_fusion(["owls", "rings"], {"rings": 1.0})
    lines.append(f"{fused[0][0]} {fused[0][1]:.3f} {len(order)} {len(batch)} {len(many)} {counted} {best(reranked).id}")

    vectors = encode_documents(nano_en(), passages.texts)
    pooled = pool_tokens(vectors, factor=2)
    asked = encode_queries(nano_en(), [query])
    lines.append(
        f"{len(to_ragged(pooled, allow_empty=True))} {maxsim(asked, vectors).size} {maxsim_pairs(asked, asked).size}"
    )
    lines.append(f"{weighted_fusion([1.0, 2.0], [2.0, 1.0], 0.5).size} {score:.2f} {recall:.2f}")
    flat = Index.create(folder / "flat", dim=index.dim, codec="flat", overwrite=True)
    flat.add(range(len(vectors)), vectors=iter(vectors))
    lines += show(flat.search(matrix(asked), 1, probes=4))
    assert 0 in flat
    encoded = Index.create(folder / "encoded", dim=index.dim, fde=FdeOptions(planes=2), overwrite=True)
    lines += show(encoded.search(matrix(asked), 1, gather="fde"))
    assert [document.text for document in index.documents(["rings"])] != [None]
    assert len(index.vectors(["rings"])) == 1
    assert index.count(filter={"lang": "en"}) == len(index.ids(filter={"lang": "en"}))
    index.update_metadata(metadata={"seen": True}, filter={"lang": "en"})
    index.upsert(["elms"], texts=["Elms are ring-porous."])
    index.delete(filter={"page": 2})
    index.compact()
    index.refresh()
    generation = index.generation
    problems: list[str] = index.check()
    lines += problems
    index.close()
    with Index.open(folder / "news", generation=generation, mmap=False) as again:
        left = len(again)
    print("\n".join(lines), latewood.simd_level())
    return left
