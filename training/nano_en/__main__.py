"""The command: `python -m training.nano_en all` trains, exports and measures the model; each step can be run alone."""

import argparse
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from training.nano_en import contrast, debian, distil, evaluate, export, teacher, texts, tokens
from training.nano_en.card import write as write_card
from training.nano_en.encode import onnx_forward
from training.nano_en.log import say
from training.nano_en.settings import DEFAULT_WORK, Settings, miniature

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = ("data", "teacher", "distil", "contrast", "export", "evaluate", "card")


def parse(arguments: list[str] | None) -> tuple[str, Settings, argparse.Namespace]:
    """Return the step, the settings and what else was asked for."""
    parser = argparse.ArgumentParser(prog="python -m training.nano_en", description=__doc__)
    parser.add_argument("step", choices=[*STEPS, "all"])
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK, help="folder of everything a run makes")
    parser.add_argument("--collections", type=Path, help="folder of the collections' .tar.gz files, BEIR layout")
    parser.add_argument("--no-packages", action="store_true", help="leave out the text of Debian packages")
    parser.add_argument("--miniature", action="store_true", help="the same run in small, in two minutes")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, help="folder of the exported model, by default in --work")
    chosen = parser.parse_args(arguments)
    work = chosen.work
    packages = None if chosen.no_packages else work / "packages"
    settings = Settings(work=work, sets=work / "sets", packages=packages, device=chosen.device)
    if chosen.miniature:
        settings = replace(miniature(settings), packages=None)
    return chosen.step, settings, chosen


def prepare(settings: Settings, collections: Path | None) -> None:
    """Unpack the collections, fetch the packages, tokenise all."""
    settings.sets.mkdir(parents=True, exist_ok=True)
    for name in (*(source.name for source in texts.SETS), *evaluate.METRICS):
        if collections and not (settings.sets / name).is_dir():
            with tarfile.open(collections / f"{name}.tar.gz") as archive:
                archive.extractall(settings.sets, filter="data")
    if settings.packages is not None:
        debian.download(settings.packages)
    tokens.write(settings)


def main(arguments: list[str] | None = None) -> None:
    """Run one step, or all that are not done yet.

    Parameters
    ----------
    arguments : list of str, optional
        By default those of the command line.
    """
    step, settings, chosen = parse(arguments)
    torch.set_num_threads(chosen.threads)
    folder = chosen.output or settings.work / "export"
    actions: dict[str, Callable[[], object]] = {
        "data": lambda: prepare(settings, chosen.collections),
        "teacher": lambda: teacher.write(settings),
        "distil": lambda: say(settings, distilled=round(distil.run(settings), 5)),
        "contrast": lambda: say(settings, ranked=round(contrast.run(settings), 5)),
        "export": lambda: say(settings, bytes=export.run(settings, folder)),
        "evaluate": lambda: evaluate.report(
            settings,
            onnx_forward(folder / export.MODEL, chosen.threads),
            settings.work / "figures.json",
            threads=chosen.threads,
        ),
        "card": lambda: write_card(settings, folder),
    }
    for name in STEPS if step == "all" else (step,):
        actions[name]()


if __name__ == "__main__":
    main()
