"""One renderer for the page of a service, for notebooks and for files: fragments of HTML, which run nothing.

`explained` gives one document's answer to a query, `listed` several hits. Their classes are styled by `show.css`, which
lies in everything under the class `latewood`; `show.js` marks, where scripts may run, the best answers of the query
token that is pointed at or focused. `standalone` puts fragments, styles and script into one file. All text is escaped
here.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from math import ceil
from typing import Any

from latewood.show.matches import Matches, Part, matches_of

LEVELS = 9
"""Shades, beside none."""
HUES = 12
"""Colours of query tokens, which come again where there are more."""
_ALONE = "body{margin:2rem auto;max-width:48rem;padding:0 1rem}h1{font-size:1.4rem;overflow-wrap:anywhere}"
BAR = 1000
"""Width of a bar, in units of its own."""


def explained(
    matrix: Any,
    *,
    text: str | None,
    spans: Sequence[tuple[int, int]] | None,
    query_tokens: Sequence[str] | None,
    document_tokens: Sequence[str] | None,
    with_query: bool = True,
) -> str:
    """Show how a document answers a query.

    Parameters
    ----------
    matrix : float32 array [query tokens, document tokens]
    text, spans
        Of the document, as for `matches_of`.
    query_tokens, document_tokens : sequence of str, or None
        Their names.
    with_query : bool
        Whether the query's tokens are shown too.

    Returns
    -------
    str
        A fragment of HTML.
    """
    found = matches_of(matrix, text, spans)
    pieces = [query(query_tokens or _numbered("query token", len(found.adds)), found)] if with_query else []
    names = document_tokens or _numbered("document token", matrix.shape[1])
    queries = query_tokens or _numbered("query token", len(found.adds))
    pieces.append(bar(found, queries))
    if text is not None:
        shaded = "".join(_part(part, _words(text[part.first : part.last]), found, queries) for part in found.parts)
        pieces.append(f'<p class="text" dir="auto" tabindex="0">{shaded}</p>')
    if found.without_span:
        shown = [_part(part, _words(names[part.tokens[0]]), found, queries) for part in found.without_span]
        tokens = " ".join(shown)
        label = "tokens" if text is None else "tokens without characters"
        pieces.append(f'<p class="special"><span class="label">{label}</span> {tokens}</p>')
    return "".join(pieces)


def query(tokens: Sequence[str], found: Matches | None = None) -> str:
    """Show the tokens of a query, and what each adds where that is known."""
    total = float(found.adds.sum()) if found is not None else 0.0
    shown = []
    for place, token in enumerate(tokens):
        title = (
            "" if found is None else f' title="adds {found.adds[place]:.3f}{_share(float(found.adds[place]), total)}"'
        )
        shown.append(f'<span class="q h{place % HUES}" data-q="{place}" tabindex="0"{title}>{_words(token)}</span>')
    return f'<p class="query" dir="auto"><span class="label">query</span> {" ".join(shown)}</p>'


def bar(found: Matches, queries: Sequence[str]) -> str:
    """Show a score as a bar of what its query tokens add; a token that takes something away has no part in it."""
    total = float(found.adds.clip(min=0).sum())
    left = 0.0
    rows = []
    for place, adds in enumerate(found.adds.tolist()):
        width = BAR * adds / total if total > 0 and adds > 0 else 0.0
        name = f"{queries[place]} adds {adds:.3f}{_share(adds, total)}"
        rows.append(
            f'<rect class="h{place % HUES}" data-q="{place}" x="{left:.2f}" y="0" width="{width:.2f}" height="10">'
            f"<title>{_words(name)}</title></rect>"
        )
        left += width
    label = f"score {float(found.adds.sum()):.3f}, of {len(found.adds)} query tokens"
    return (
        f'<svg class="bar" viewBox="0 0 {BAR} 10" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f"{''.join(rows)}</svg>"
    )


def listed(hits: Iterable[Mapping[str, Any]]) -> str:
    """Show hits, best first.

    Parameters
    ----------
    hits : iterable of mappings
        With "id", "score", "rank", "text", "metadata", "stage_scores", and "explained": a fragment of `explained`, or
        None.
    """
    rows = []
    for hit in hits:
        body = hit["explained"]
        if body is None and hit["text"] is not None:
            body = f'<p class="text" dir="auto" tabindex="0">{_words(hit["text"])}</p>'
        stages, name = hit.get("stage_scores") or {}, _words(str(hit["id"]))
        told = "".join(f' <span class="stage">{_words(name)} {_number(score)}</span>' for name, score in stages.items())
        rows.append(
            f'<li class="hit" data-id="{name}"><p class="head">'
            f'<span class="rank">{int(hit["rank"])}</span> <bdi class="id">{name}</bdi> '
            f'<span class="score">{_number(hit["score"])}</span>{told}</p>'
            f"{body or ''}{_metadata(hit['metadata'])}</li>"
        )
    return f'<ol class="hits">{"".join(rows)}</ol>' if rows else '<p class="label">no hits</p>'


def styled(fragment: str) -> str:
    """Put a fragment and its styles into one element, for a notebook."""
    return f'<div class="latewood"><style>{asset("show.css")}</style>{fragment}</div>'


def standalone(title: str, fragment: str) -> str:
    """Make a whole file of a fragment, with styles and script."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_words(title)}</title><style>{asset('show.css')}{_ALONE}</style></head>"
        f'<body class="latewood"><main><h1>{_words(title)}</h1>{fragment}</main>'
        f'<script type="module">{asset("show.js")}\nwatch(document.body);</script></body></html>\n'
    )


@cache
def asset(name: str) -> str:
    """Give a file of this folder."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _part(part: Part, shown: str, found: Matches, queries: Sequence[str]) -> str:
    if not part.tokens or not part.queries:
        return shown
    level = ceil(LEVELS * min(1.0, part.adds / found.most)) if found.most > 0 and part.adds > 0 else 0
    title = "; ".join(f"{queries[query]} {found.adds[query]:+.3f}" for query in part.queries)
    places = " ".join(map(str, part.queries))
    hue = max(part.queries, key=lambda query: float(found.adds[query])) % HUES
    return f'<mark class="w{level} h{hue}" data-q="{places}" title="{_words(title)}">{shown}</mark>'


def _metadata(metadata: Mapping[str, Any] | None) -> str:
    if not metadata:
        return ""
    rows = "".join(
        f"<div><dt>{_words(str(key))}</dt><dd>{_words(_value(value))}</dd></div>" for key, value in metadata.items()
    )
    return f'<dl class="metadata">{rows}</dl>'


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name} {place}" for place in range(count)]


def _number(score: float | None) -> str:
    return "&minus;&infin;" if score is None else f"{score:.4f}"


def _share(adds: float, total: float) -> str:
    return f", {adds / total:.1%}" if total > 0 else ""


def _words(text: str) -> str:
    """Escape text; what no file can hold, half of a surrogate pair, becomes a question mark."""
    return escape(text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}"))
