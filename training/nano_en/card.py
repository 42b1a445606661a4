"""The model card: what the weights are made of and what was measured, written from the run's own records."""

import hashlib
import json
from pathlib import Path
from typing import Any

from training.nano_en import export, tokens
from training.nano_en.settings import Settings

CARD = """# latewood/nano-en

A tiny English late-interaction encoder: a unit vector of {dim} dimensions a token, scored by MaxSim. {size:.2f} MB in
all, run by onnxruntime and tokenizers; neither torch nor a network is needed. It is made for trying latewood out,
and for processors that can run nothing larger; where quality counts most, use a larger model.

## What it is

| | |
| --- | --- |
| Architecture | BERT, uncased WordPiece; {layers} layers, width 384, 12 heads, {intermediate} feed-forward neurons |
| Start | layers {kept} of all-MiniLM-L6-v2 (Apache-2.0) and its embedding table at rank {rank} |
| Teacher | token outputs of all-MiniLM-L6-v2, to {dim} dimensions by PCA without centring |
| Embedding table | 4 bits, trained with the rounding |
| Layers | {bits} bits per output channel, norms and biases float32 |
| Input | `input_ids`, `attention_mask`: int64, [batch, tokens] |
| Lengths | queries {query_length} tokens, documents {document_length}; markers included, no prefixes |
| Output | `token_embeddings`: float32, [batch, tokens, {dim}], unit length |
| Left out | vectors of punctuation in documents |

## Text it was trained on

Nothing else was read, and nothing of SciFact, SQuAD-dev, XQuAD or any other test collection.

| text | licence | texts | tokens |
| --- | --- | ---: | ---: |
{sources}

The teacher's own training data are named in its card. The weights are released under Apache-2.0; whether a licence of
training text reaches weights is not settled, so the table names every one.

## Training

`python -m training.nano_en all --collections FOLDER`, FOLDER with the collections' archives in BEIR layout.

1. Distillation of every token: 1 - cosine to the teacher's vector, {distil_tokens:,} tokens, AdamW at {distil_rate}.
2. Ranking: divergence from the softmax over MaxSim of the teacher's 384 dimensions, among {pairs} passages that answer
   and as many that BM25 takes for answers; a share of the labels' cross entropy; the same with documents pooled by 2, 4
   or 8 (Ward); and the first stage's loss; {contrast_steps} steps at {contrast_rate}.
{note}
## Measured

Exact MaxSim with the files beside this card. SciFact is zero-shot. SQuAD-dev: articles held out from training, 10,570
questions over 2,067 paragraphs.

{tables}

{speed}

## Files

| file | bytes | SHA-256 |
| --- | ---: | --- |
{files}
"""

ARMS = {
    "bm25": "BM25 (bm25s, Lucene)",
    "maxsim": "**nano-en**",
    "bm25 + nano (reciprocal ranks)": "BM25 + nano-en, reciprocal rank fusion",
    "bm25 -> nano": "BM25's first 100 reranked by nano-en",
    "bm25 -> nano, half of each score": "BM25's first 100, half of each score",
    "pooled by 2": "nano-en, documents pooled by 2",
    "pooled by 4": "nano-en, documents pooled by 4",
    "32 vectors": "nano-en, 32 vectors a document",
}


def figures_table(figures: dict[str, Any]) -> str:
    """Return one row an arm, one column a collection."""
    both = [name for name in ("scifact", "squad-dev") if name in figures]
    head = {"scifact": "SciFact nDCG@10", "squad-dev": "SQuAD-dev MRR@10"}
    rows = ["| | " + " | ".join(head[n] for n in both) + " |", "| --- |" + " ---: |" * len(both)]
    teacher = figures.get("teacher", {})
    for arm, label in teacher.items():
        rows.append(f"| {arm} | " + " | ".join(f"{label.get(n, float('nan')):.3f}" for n in both) + " |")
    for arm, label in ARMS.items():
        if all(arm in figures[n] for n in both):
            rows.append(f"| {label} | " + " | ".join(f"{figures[n][arm]:.3f}" for n in both) + " |")
    return "\n".join(rows)


def sources_table(settings: Settings) -> str:
    """Return one row for each text, from the records of the step `data`."""
    rows = []
    for name in tokens.names(settings):
        note = json.loads((settings.work / "tokens" / f"{name}.json").read_text(encoding="utf-8"))
        if any((settings.work / "teacher").glob(f"{name}-*.npy")):
            rows.append(f"| {note['origin']} | {note['licence']} | {note['texts']:,} | {note['tokens']:,} |")
    return "\n".join(rows)


def write(settings: Settings, folder: Path) -> None:
    """Write `README.md` beside an exported model.

    Parameters
    ----------
    settings : Settings
    folder : pathlib.Path
    """
    figures = json.loads((settings.work / "figures.json").read_text(encoding="utf-8"))
    names = (export.MODEL, export.TOKENIZER, export.CONFIG)
    note = settings.work / "note.md"
    rows = []
    for name in names:
        content = (folder / name).read_bytes()
        rows.append(f"| {name} | {len(content):,} | `{hashlib.sha256(content).hexdigest()}` |")
    text = CARD.format(
        dim=settings.dim,
        size=sum((folder / name).stat().st_size for name in names) / 1e6,
        layers=len(settings.layers),
        kept=", ".join(str(layer + 1) for layer in settings.layers),
        intermediate=settings.intermediate,
        rank=settings.rank,
        bits=7 if export.REDUCE_RANGE else 8,
        query_length=settings.query_length,
        document_length=settings.document_length,
        sources=sources_table(settings),
        distil_tokens=settings.distil_tokens,
        distil_rate=settings.distil_rate,
        pairs=settings.contrast_pairs,
        contrast_steps=settings.contrast_steps,
        contrast_rate=settings.contrast_rate,
        note="\n" + note.read_text(encoding="utf-8") if note.exists() else "",
        tables=figures_table(figures),
        speed=figures.get("speed_text", ""),
        files="\n".join(rows),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
