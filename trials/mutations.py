"""Files that somebody made on purpose: any bytes, and every checksum right. No panic, no hang, bounded memory."""

import json
import random
import shutil
import struct
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from trials.bases import Base, build
from trials.containers import ENTRY, HEADER, MANIFEST, Container, Section, name_in_manifests, signed
from trials.counts import Attempts, Counts
from trials.patient import Patient, PatientDiedError

ROOM = 4 << 30
"""Bytes of address space: the threads of a process reserve far more than they use."""
MEMORY = 400 << 20
"""Bytes that a process may hold; the indexes have less than one megabyte."""
JSON_SECTIONS = {1, 16, 32}
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
ODD_VALUES: tuple[Any, ...] = (
    *EDGES,
    -1,
    0.5,
    1e308,
    -0.0,
    "",
    "x",
    "../x",
    "flat",
    None,
    True,
    [],
    {},
    [[]],
    "a" * 5000,
)


def run(counts: Counts, attempts: Attempts) -> None:
    """Change files of sound indexes in every way, sign them, and ask and do everything."""
    with tempfile.TemporaryDirectory() as scratch, Patient(room=ROOM) as patient:
        bases = build(Path(scratch) / "bases")
        for name, choices in attempts:
            base = choices.choice(bases)
            copy = Path(scratch) / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(base.index, copy)
            what = f"{name} on {base.name}, {mutate(copy, choices)}"
            _attempt(counts, what, base, copy, patient, mmap=choices.random() < 0.5)


def _attempt(counts: Counts, what: str, base: Base, copy: Path, patient: Patient, *, mmap: bool) -> None:
    try:
        told = patient.order(do="ask", base=str(base.folder), index=str(copy), mmap=mmap)
    except PatientDiedError as died:
        counts.fault("hangs" if died.hung else "panics", f"{what}: {died}")
        return
    for name, answer in told["answers"].items():
        if "panic" in answer:
            counts.fault("panics", f"{what}: {name}: {answer}")
        elif "untyped" in answer:
            counts.fault("untyped", f"{what}: {name}: {answer}")
        else:
            counts.note("errors" if "error" in answer else "answers")
    if told["memory"] > MEMORY:
        counts.fault("memory", f"{what}: {told['memory'] >> 20} MiB")


def mutate(folder: Path, choices: random.Random) -> str:
    """Change one file, or two, and make all checksums right again; what was done."""
    done = []
    files = sorted(path for path in folder.iterdir() if path.suffix == ".lwd" or "MANIFEST" in path.name)
    # Manifests, whose names come first, are changed last: they must be read to name the others.
    for path in sorted(choices.sample(files, choices.choice((1, 1, 1, 2))), reverse=True):
        content = path.read_bytes()
        container = Container.parse(content)
        if choices.random() < 0.15:
            new, what = _table(content, choices)
        else:
            change = choices.choice(CHANGES)
            mutated, what = change(container, choices)
            new = mutated.build()
        path.write_bytes(new)
        if container.kind != MANIFEST:
            name_in_manifests(folder, path.name)
        done.append(f"{path.name}: {what}")
    return " and ".join(done)


def _table(content: bytes, choices: random.Random) -> tuple[bytes, str]:
    """Change a field of the header or of an entry, so that the table and the sections disagree."""
    new = bytearray(content)
    (count,) = struct.unpack_from("<H", content, 14)
    if choices.random() < 0.3:
        at, form = choices.choice(((8, "<H"), (10, "<H"), (12, "<H"), (14, "<H"), (16, "<Q"), (30, "<B")))
    else:
        entry = HEADER.size + choices.randrange(count) * ENTRY.size
        field, form = choices.choice(((0, "<I"), (4, "<I"), (8, "<Q"), (16, "<Q"), (24, "<Q")))
        at = entry + field
    (old,) = struct.unpack_from(form, content, at)
    most = 2 ** (8 * struct.calcsize(form)) - 1
    value = choices.choice((*EDGES, old + 1, old - 1, old + 64, old ^ (1 << choices.randrange(8)))) & most
    struct.pack_into(form, new, at, value)
    if len(new) < HEADER.size + struct.unpack_from("<H", new, 14)[0] * ENTRY.size:
        return bytes(new), f"field at {at} is {value}, unsigned"
    return signed(bytes(new)), f"field at {at} is {value} instead of {old}"


def _number(container: Container, choices: random.Random) -> tuple[Container, str]:
    """Put an edge into a number of some section."""
    position = choices.randrange(len(container.sections))
    content = bytearray(container.sections[position].content)
    width = choices.choice((1, 2, 4, 8))
    if len(content) < width:
        return _bytes(container, choices)
    at = choices.choice((0, len(content) // width - 1, choices.randrange(len(content) // width))) * width
    old = int.from_bytes(content[at : at + width], "little")
    value = choices.choice((*EDGES, old + 1, old - 1, 2 * old)) % 2 ** (8 * width)
    content[at : at + width] = value.to_bytes(width, "little")
    return container.with_section(
        position, bytes(content)
    ), f"{_name(container, position)}: {value} at {at}, instead of {old}"


def _bytes(container: Container, choices: random.Random) -> tuple[Container, str]:
    """Write noise over some bytes, or all."""
    position = choices.randrange(len(container.sections))
    content = bytearray(container.sections[position].content)
    start = choices.randrange(len(content) + 1)
    end = min(len(content), start + choices.choice((1, 4, 32, len(content))))
    content[start:end] = choices.choice((choices.randbytes(end - start), bytes(end - start), b"\xff" * (end - start)))
    return container.with_section(position, bytes(content)), f"{_name(container, position)}: bytes {start} to {end}"


def _length(container: Container, choices: random.Random) -> tuple[Container, str]:
    """Make a section longer or shorter."""
    position = choices.randrange(len(container.sections))
    content = container.sections[position].content
    step = choices.choice((1, 2, 4, 8, 64))
    new = choices.choice((content[:-step], content + bytes(step), content + choices.randbytes(step), b"", content * 2))
    return container.with_section(position, new), f"{_name(container, position)}: {len(new)} bytes, not {len(content)}"


def _sections(container: Container, choices: random.Random) -> tuple[Container, str]:
    """Lose a section, add one, exchange two."""
    sections = list(container.sections)
    position = choices.randrange(len(sections))
    what = choices.choice(("lost", "twice", "of another kind", "with another's content", "moved"))
    one, other = sections[position], choices.choice(sections)
    if what == "lost":
        del sections[position]
    elif what == "twice":
        sections.insert(choices.randrange(len(sections) + 1), one)
    elif what == "of another kind":
        sections[position] = replace(one, kind=choices.choice((*range(1, 70), 2**31)), flags=choices.choice((0, 1, 2)))
    elif what == "with another's content":
        sections[position] = Section(one.kind, one.flags, other.content)
    else:
        sections.insert(choices.randrange(len(sections)), sections.pop(position))
    return replace(container, sections=tuple(sections)), f"{_name(container, position)} {what}"


def _json(container: Container, choices: random.Random) -> tuple[Container, str]:
    """Change a value of the JSON, if there is some."""
    found = [position for position, section in enumerate(container.sections) if section.kind in JSON_SECTIONS]
    if not found:
        return _number(container, choices)
    position = choices.choice(found)
    value = json.loads(container.sections[position].content)
    places = list(_places(value))
    holder, key = choices.choice(places)
    what = choices.random()
    if what < 0.15:
        del holder[key]
        told = f"{key!r} gone"
    elif what < 0.25 and isinstance(holder, list):
        holder.append(holder[key])
        told = f"{key!r} twice"
    else:
        other, other_key = choices.choice(places)
        odd = choices.choice((*ODD_VALUES, other[other_key] if other_key in _keys(other) else 0))
        if isinstance(holder[key], int) and choices.random() < 0.5:
            odd = holder[key] + choices.choice((-1, 1))
        holder[key] = json.loads(json.dumps(odd))
        told = f"{key!r} is {str(odd)[:40]!r}"
    text = json.dumps(value).encode()
    if choices.random() < 0.05:
        text = choices.choice((b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", text + b"x", b"", text * 2))
        told = f"JSON that begins {text[:10]!r}"
    return container.with_section(position, text), f"{_name(container, position)}: {told}"


def _places(value: Any) -> Any:
    for key in _keys(value):
        yield value, key
        yield from _places(value[key])


def _keys(value: Any) -> list[Any]:
    return list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []


def _name(container: Container, position: int) -> str:
    return f"section {container.sections[position].kind}"


CHANGES: tuple[Callable[[Container, random.Random], tuple[Container, str]], ...] = (
    _number,
    _number,
    _bytes,
    _length,
    _sections,
    _json,
)
