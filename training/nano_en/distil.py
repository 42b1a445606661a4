"""First stage: the student's vector of every token becomes the teacher's."""

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from training.nano_en import checkpoint, teacher, tokens
from training.nano_en.batches import epoch, gather
from training.nano_en.log import say
from training.nano_en.model import Student, build, from_teacher
from training.nano_en.optimiser import adamw, set_rate
from training.nano_en.precision import mixed
from training.nano_en.settings import Settings

CHECKPOINT = "checkpoints/distil.pt"


@dataclass(frozen=True, slots=True)
class Taught:
    """Texts with the teacher's vector of each token.

    Parameters
    ----------
    tokens : Tokens
    shards : list of numpy.ndarray
        The vectors, mapped from their files.
    shard_of, start_of : numpy.ndarray
        Where each text's vectors lie.
    """

    tokens: tokens.Tokens
    shards: list[npt.NDArray[np.float16]]
    shard_of: npt.NDArray[np.int64]
    start_of: npt.NDArray[np.int64]

    def targets(self, batch: npt.NDArray[np.int64], width: int) -> torch.Tensor:
        """Return the teacher's vectors of a batch, padded with zeros, [texts, width, dim]."""
        out = np.zeros((len(batch), width, self.shards[0].shape[1]), np.float16)
        for row, text in zip(out, batch, strict=True):
            length = self.tokens.offsets[text + 1] - self.tokens.offsets[text]
            start = self.start_of[text]
            row[:length] = self.shards[self.shard_of[text]][start : start + length]
        return torch.from_numpy(out).float()


def read(settings: Settings) -> Taught:
    """Return all texts with the vectors that the step `teacher` wrote."""
    ids: list[npt.NDArray[np.uint16]] = []
    lengths: list[npt.NDArray[np.int64]] = []
    files: list[npt.NDArray[np.float16]] = []
    shard_of: list[npt.NDArray[np.int64]] = []
    start_of: list[npt.NDArray[np.int64]] = []
    for name in tokens.names(settings):
        source = tokens.read(settings, name)
        for number, (first, last) in enumerate(teacher.shards(settings, name, source)):
            ids.append(source.ids[source.offsets[first] : source.offsets[last]])
            lengths.append(source.lengths[first:last])
            shard_of.append(np.full(last - first, len(files)))
            start_of.append(source.offsets[first:last] - source.offsets[first])
            files.append(np.load(teacher.shard_path(settings, name, number), mmap_mode="r"))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    texts = tokens.Tokens(np.concatenate(ids), offsets)
    return Taught(texts, files, np.concatenate(shard_of), np.concatenate(start_of))


def token_loss(student: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean of 1 - cosine over the tokens that are there."""
    cosine = (student * target).sum(dim=-1)
    weight = mask.float()
    return ((1 - cosine) * weight).sum() / weight.sum()


def start(settings: Settings, texts: tokens.Tokens) -> Student:
    """Return the student before any training."""
    model = teacher.load("cpu")
    counts = np.bincount(texts.ids, minlength=model.config.vocab_size)
    return from_teacher(settings, model, teacher.projection(settings), counts)


def run(settings: Settings) -> float:
    """Distil until `distil_tokens` have been seen, from the last checkpoint if there is one.

    Parameters
    ----------
    settings : Settings

    Returns
    -------
    float
        The loss, a running mean over about the last hundred steps.
    """
    torch.manual_seed(0)
    taught = read(settings)
    saved = checkpoint.load(settings.work / CHECKPOINT)
    student = build(settings) if saved else start(settings, taught.tokens)
    student.to(settings.device)
    optimiser = adamw(student, settings.distil_rate)
    step, number, position, seen, loss = 0, 0, 0, 0, 1.0
    if saved:
        student.load_state_dict(saved["student"])
        optimiser.load_state_dict(saved["optimiser"])
        step, number, position, seen, loss = (saved[k] for k in ("step", "epoch", "position", "seen", "loss"))

    def keep() -> None:
        checkpoint.save(
            settings.work / CHECKPOINT,
            student=student.state_dict(),
            optimiser=optimiser.state_dict(),
            step=step,
            epoch=number,
            position=position,
            seen=seen,
            loss=loss,
        )

    say(settings, stage="distil", texts=len(taught.tokens), tokens=len(taught.tokens.ids))
    batches = epoch(taught.tokens.lengths, settings.batch_tokens, number)
    began, since, last = time.monotonic(), seen, time.monotonic()
    while seen < settings.distil_tokens:
        if position >= len(batches):
            number, position = number + 1, 0
            batches = epoch(taught.tokens.lengths, settings.batch_tokens, number)
        rate = set_rate(optimiser, settings.distil_rate, seen / settings.distil_tokens)
        ids, mask = gather(taught.tokens, batches[position])
        target = taught.targets(batches[position], ids.shape[1]).to(settings.device)
        ids, mask = ids.to(settings.device), mask.to(settings.device)
        with mixed(ids.device):
            vectors = student(ids, mask)
        error = token_loss(vectors, target, mask)
        torch.autograd.backward(error)
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        loss += (error.item() - loss) / min(step + 1, 100)
        step, position, seen = step + 1, position + 1, seen + int(mask.sum())
        if step % 100 == 0:
            speed = (seen - since) / (time.monotonic() - began)
            say(settings, step=step, seen=seen, loss=round(loss, 5), rate=rate, tokens_per_second=round(speed))
        if time.monotonic() - last > settings.checkpoint_seconds:
            keep()
            last = time.monotonic()
    keep()
    return float(loss)
