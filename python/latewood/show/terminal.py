"""The shaded text of a document for a terminal."""

from collections.abc import Sequence
from math import ceil
from typing import Any

from latewood.show.matches import matches_of

SHADES = (230, 229, 222, 221, 214)
"""Of the terminal's 256 colours, from pale to strong; all of them bear black letters."""
RESET = "\x1b[0m"
KEPT = "\n\N{ZERO WIDTH JOINER}"
"""What is not printable and does no harm; emoji of several people are one by the joiner."""


def shaded(matrix: Any, text: str, spans: Sequence[tuple[int, int]] | None, *, colour: bool) -> str:
    """Give a text whose parts are shaded by what they add to the score.

    Parameters
    ----------
    matrix, text, spans
        As for `matches_of`.
    colour : bool
        Whether the terminal shows colours; otherwise the parts that add most stand in brackets.
    """
    found = matches_of(matrix, text, spans)
    pieces = []
    for part in found.parts:
        shown = printable(text[part.first : part.last])
        level = ceil(len(SHADES) * part.adds / found.most) if found.most > 0 and part.adds > 0 else 0
        if level and colour:
            shown = f"\x1b[30;48;5;{SHADES[min(level, len(SHADES)) - 1]}m{shown}{RESET}"
        elif level > len(SHADES) // 2:
            shown = f"[{shown}]"
        pieces.append(shown)
    return "".join(pieces)


def printable(text: str) -> str:
    """Put a space for what could be a command for the terminal, or turn the direction of what follows."""
    return "".join(letter if letter.isprintable() or letter in KEPT else " " for letter in text)
