"""Damaged files: an error, or the same answer to the bit.

Indexes of every codec and both formats are damaged anywhere, mapped and read, before they are opened and while they are
open. Then everything is asked of them and done to them that a user can.
"""

import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from trials.bases import Base, build
from trials.containers import LATE_IN_FORMAT_1, Container, section_at
from trials.counts import Attempts, Counts
from trials.patient import Patient, PatientDiedError
from trials.questions import Answer

TOLD = {"CorruptIndexError", "FormatVersionError", "IndexNotFoundError"}
"""What a damaged file may be answered with."""
PAGE = 4096
Done = tuple[str | None, str]
"""Why answers may differ without a word, if they may; and what was done."""
Damage = Callable[[Path, random.Random], Done]
UNNAMED = {"LOCK", "NEWEST"}
"""Files that no checksum covers, and on which no answer depends."""


def run(counts: Counts, attempts: Attempts) -> None:
    """Damage copies of sound indexes."""
    with tempfile.TemporaryDirectory() as scratch, Patient() as patient:
        bases = build(Path(scratch) / "bases")
        sound = {base.name: _sound_answers(base, patient, Path(scratch) / "sound") for base in bases}
        for name, choices in attempts:
            base = choices.choice(bases)
            copy = Path(scratch) / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(base.index, copy)
            _attempt(counts, f"{name} on {base.name}", base, copy, choices, patient, sound[base.name])


def _sound_answers(base: Base, patient: Patient, copy: Path) -> dict[str, Answer]:
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(base.index, copy)
    answers: dict[str, Answer] = _ask(patient, base, copy, mmap=True)
    broken = {name: answer for name, answer in answers.items() if "panic" in answer or "untyped" in answer}
    if broken or answers["check"] != {"value": []}:
        message = f"{base.name} is not sound: {broken or answers['check']}"
        raise AssertionError(message)
    return answers


def _ask(patient: Patient, base: Base, copy: Path, *, mmap: bool, held: bool = False) -> dict[str, Answer]:
    order = {"do": "ask", "base": str(base.folder), "index": str(copy), "mmap": mmap, "held": held}
    answers: dict[str, Answer] = patient.order(**order)["answers"]
    return answers


def _attempt(
    counts: Counts,
    name: str,
    base: Base,
    copy: Path,
    choices: random.Random,
    patient: Patient,
    sound: dict[str, Answer],
) -> None:
    mmap, held = choices.random() < 0.5, choices.random() < 0.25
    # A file that is shortened under a map ends the process, whatever the library does (SIGBUS).
    kinds = [kind for kind in KINDS if not (held and mmap and kind in SHORTENING)]
    kind = choices.choice(kinds)
    # Single bits are what nothing but a checksum sees.
    damage = _flip if choices.random() < 0.4 else kind
    touched = held and choices.random() < 0.5
    try:
        if held:
            patient.order(do="hold", base=str(base.folder), index=str(copy), mmap=mmap, touch=touched)
        excuse, what = damage(copy, choices)
        if not _changed(base.index, copy):
            counts.note("without effect")
            return
        must_be_seen = _must_be_seen(base, copy)
        what = f"{name}, {what}, {'mapped' if mmap else 'read'}{', while it was open' if held else ''}"
        answers = _ask(patient, base, copy, mmap=mmap, held=held)
    except PatientDiedError as died:
        counts.fault("hangs" if died.hung else "panics", f"{name}, {damage.__name__}: {died}")
        return
    quiet = f"different answers from {excuse}" if excuse else None
    if held and mmap:
        quiet = "different answers from what was read before it was damaged"
    _judge_errors(counts, what, answers, sound, quiet)
    _judge_answers(counts, what, answers, sound, quiet)
    if answers.get("check") == {"value": []} and must_be_seen:
        counts.fault("silent", f"{what}: check() finds nothing")


def _judge_errors(
    counts: Counts, what: str, answers: dict[str, Answer], sound: dict[str, Answer], quiet: str | None
) -> None:
    for name, answer in answers.items():
        if "panic" in answer:
            counts.fault("panics", f"{what}: {name}: {answer}")
        elif "untyped" in answer:
            counts.fault("untyped", f"{what}: {name}: {answer}")
        elif "error" in answer and answer != sound.get(name):
            if answer["error"] in TOLD:
                counts.note("answers that were errors")
            elif quiet is not None:
                # An id that has become another is unknown.
                counts.note(quiet)
            else:
                counts.fault("untyped", f"{what}: {name}: {answer}")


def _judge_answers(
    counts: Counts, what: str, answers: dict[str, Answer], sound: dict[str, Answer], quiet: str | None
) -> None:
    added = answers.get("add", {}).get("error") is None
    for name, answer in answers.items():
        question = name.rsplit(": ", 1)[-1]
        if name == "recover" or question == "check" or "value" not in answer:
            continue
        expected = sound[name] if added or ": " not in name else sound.get(question, answer)
        if not added and name == "after compact: open":
            continue
        if answer == expected:
            counts.note("right answers")
        elif quiet is not None:
            counts.note(quiet)
        else:
            counts.fault("silent", f"{what}: {name}: {str(answer)[:200]} instead of {str(expected)[:200]}")


def _changed(before: Path, after: Path) -> bool:
    names = {path.name for path in before.iterdir()} | {path.name for path in after.iterdir()}
    return any(_content(before / name) != _content(after / name) for name in names - {"LOCK"})


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _must_be_seen(base: Base, copy: Path) -> bool:
    """Whether what has changed is a file that a manifest names, or a manifest that is still there."""
    manifests = sorted(path.name for path in base.index.glob("MANIFEST-*"))
    for path in base.index.iterdir():
        found = _content(copy / path.name)
        # Older commits come and go; the newest one's loss is noticed by a note that format 1 does not have.
        may_go = path.name in manifests and (path.name != manifests[-1] or base.format == 1)
        if path.name not in UNNAMED and found != path.read_bytes() and not (found is None and may_go):
            return True
    return False


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.stat().st_size > 0)


def _flip(folder: Path, choices: random.Random) -> Done:
    path = choices.choice(_files(folder))
    content = bytearray(path.read_bytes())
    at, bit = choices.randrange(len(content)), choices.randrange(8)
    excuse = _excuse(path, at)
    content[at] ^= 1 << bit
    _overwrite(path, bytes(content))
    return excuse, f"bit {bit} of byte {at} of {path.name} flipped"


def _zeroes(folder: Path, choices: random.Random) -> Done:
    path = choices.choice(_files(folder))
    content = bytearray(path.read_bytes())
    at = choices.randrange(0, len(content), PAGE)
    excuse = _excuse(path, min(at + PAGE // 2, len(content) - 1))
    content[at : at + PAGE] = bytes(len(content[at : at + PAGE]))
    _overwrite(path, bytes(content))
    return excuse, f"the page at {at} of {path.name} zeroed"


def _noise(folder: Path, choices: random.Random) -> Done:
    path = choices.choice(_files(folder))
    content = bytearray(path.read_bytes())
    at = choices.randrange(len(content))
    length = min(choices.choice((1, 2, 8, 64, 1000)), len(content) - at)
    excuse = _excuse(path, at)
    content[at : at + length] = choices.randbytes(length)
    _overwrite(path, bytes(content))
    return excuse, f"{length} bytes from {at} on of {path.name} random"


def _shift(folder: Path, choices: random.Random) -> Done:
    """A byte is inserted and the last one lost: the length stays right."""
    path = choices.choice(_files(folder))
    content = path.read_bytes()
    at = choices.randrange(len(content))
    excuse = _excuse(path, at)
    _overwrite(path, content[:at] + choices.randbytes(1) + content[at:-1])
    return excuse, f"{path.name} shifted by one from {at} on"


def _truncate(folder: Path, choices: random.Random) -> Done:
    path = choices.choice(_files(folder))
    content = path.read_bytes()
    length = choices.choice((0, 1, 63, len(content) - 1, choices.randrange(len(content))))
    _overwrite(path, content[:length])
    return None, f"{path.name} cut to {length} bytes"


def _extend(folder: Path, choices: random.Random) -> Done:
    path = choices.choice(_files(folder))
    more = choices.choice((1, 64, PAGE))
    _overwrite(path, path.read_bytes() + choices.choice((bytes(more), choices.randbytes(more))))
    return None, f"{path.name} longer by {more} bytes"


def _swap(folder: Path, choices: random.Random) -> Done:
    one, other = choices.sample(_files(folder), 2)
    contents = one.read_bytes(), other.read_bytes()
    _overwrite(one, contents[1])
    _overwrite(other, contents[0])
    return None, f"{one.name} and {other.name} swapped"


def _double(folder: Path, choices: random.Random) -> Done:
    one, other = choices.sample(_files(folder), 2)
    _overwrite(one, other.read_bytes())
    return None, f"{one.name} is a copy of {other.name}"


def _remove(folder: Path, choices: random.Random) -> Done:
    path = choices.choice(_files(folder))
    newest = max(other.name for other in folder.glob("MANIFEST-*"))
    path.unlink()
    lost = path.name == newest and not (folder / "NEWEST").exists()
    return "a manifest that format 1 does not miss" if lost else None, f"{path.name} removed"


def _overwrite(path: Path, content: bytes) -> None:
    """Write in place, so that a reader's map sees it."""
    with path.open("r+b") as file:
        file.write(content)
        file.truncate()


def _excuse(path: Path, at: int) -> str | None:
    if path.name in UNNAMED:
        return None
    content = path.read_bytes()
    late = LATE_IN_FORMAT_1.get(section_at(content, at) or 0)
    return f"the {late} of format 1" if late and Container.parse(content).version == 1 else None


SHORTENING = {_truncate, _swap, _double}
KINDS: tuple[Damage, ...] = (_flip, _zeroes, _noise, _shift, _truncate, _extend, _swap, _double, _remove)
