"""Every number a run depends on, in one place: what changes here changes the weights."""

from dataclasses import dataclass, replace
from pathlib import Path

DEFAULT_WORK = Path("build/nano-en")
SEED = 20261121


@dataclass(frozen=True, slots=True)
class Settings:
    """One run.

    Parameters
    ----------
    work : pathlib.Path
        Where text, teacher vectors, checkpoints and the exported model go.
    sets : pathlib.Path
        Folder with the text collections in BEIR layout, one folder each.
    packages : pathlib.Path or None
        Folder with Debian packages to take text from; None for none.
    dim : int
        Width of the token vectors.
    layers : tuple of int
        The teacher's layers that the student keeps.
    rank : int
        Rank of the factorised embedding table.
    intermediate : int
        Neurons kept in each feed-forward layer.
    document_length, query_length : int
        Tokens, the two markers included, after which text is cut.
    pca_texts : int
        Texts the teacher's projection is fitted on.
    shard_tokens : int
        Teacher vectors per file: what an interruption of the `teacher` step can cost.
    batch_tokens : int
        Tokens per step of distillation, padding included.
    distil_tokens : int
        Tokens seen in all of distillation.
    distil_rate, contrast_rate : float
        Highest learning rates.
    contrast_pairs : int
        Queries per step of the contrastive stage.
    contrast_steps : int
    ranking_share : float
        Of the contrastive stage's weights in those that are exported; the rest is distillation's.
    negatives : int
        Hard negatives mined per query; each step draws one of them.
    checkpoint_seconds : float
    device : str
    """

    work: Path = DEFAULT_WORK
    sets: Path = DEFAULT_WORK / "sets"
    packages: Path | None = None
    dim: int = 64
    layers: tuple[int, ...] = (1, 3, 5)
    rank: int = 128
    intermediate: int = 1440
    document_length: int = 300
    query_length: int = 64
    pca_texts: int = 6000
    shard_tokens: int = 1_000_000
    batch_tokens: int = 4096
    distil_tokens: int = 20_000_000
    distil_rate: float = 8e-4
    contrast_rate: float = 1e-4
    contrast_pairs: int = 16
    contrast_steps: int = 240
    ranking_share: float = 0.5
    negatives: int = 8
    checkpoint_seconds: float = 120.0
    device: str = "cpu"


def miniature(settings: Settings) -> Settings:
    """Return the same run in small: minutes on one core, to see that every step works."""
    return replace(
        settings,
        layers=(0, 5),
        rank=32,
        intermediate=512,
        pca_texts=200,
        shard_tokens=20_000,
        batch_tokens=2048,
        distil_tokens=250_000,
        distil_rate=1e-3,
        contrast_pairs=8,
        contrast_steps=20,
        checkpoint_seconds=5.0,
    )
