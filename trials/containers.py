"""Files of an index taken apart and put together again, with right checksums (docs/format.md)."""

import json
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xxhash

HEADER = struct.Struct("<8sHHHHQ32xQ")
ENTRY = struct.Struct("<IIQQQ")
ALIGNMENT = 64
BLOCK_BYTES = 1 << 14
MANIFEST = 1
BLOCK_CHECKSUMS = 2
LATE_IN_FORMAT_1 = {34: "codes", 42: "postings", 49: "texts", 51: "metadata"}
"""Sections whose checksums format 1 compares in `check` alone."""


def checksum(content: bytes) -> int:
    """XXH3-64."""
    return xxhash.xxh3_64_intdigest(content)


@dataclass(frozen=True, slots=True)
class Section:
    """A section without its place, which follows from those before it."""

    kind: int
    flags: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Container:
    """A file. The section of block checksums is not among `sections`: it is made from them."""

    version: int
    min_reader: int
    kind: int
    magic: bytes
    sections: tuple[Section, ...]

    @classmethod
    def parse(cls, content: bytes) -> "Container":
        """Take a sound file apart."""
        magic, version, min_reader, kind, count, _, _ = HEADER.unpack_from(content)
        sections = []
        for position in range(count):
            number, flags, offset, length, _ = ENTRY.unpack_from(content, HEADER.size + position * ENTRY.size)
            if number != BLOCK_CHECKSUMS:
                sections.append(Section(number, flags, content[offset : offset + length]))
        return cls(version, min_reader, kind, magic, tuple(sections))

    def build(self) -> bytes:
        """Put the file together, as a writer of its version would."""
        blocks = [block_checksums(section.content) for section in self.sections]
        sums = [checksum(own) for own in blocks]
        sections = list(self.sections)
        if self.version >= 2:
            joined = b"".join(blocks)
            sections.insert(0, Section(BLOCK_CHECKSUMS, 1, joined))
            sums.insert(0, checksum(joined))
        else:
            sums = [checksum(section.content) for section in sections]
        end = HEADER.size + len(sections) * ENTRY.size
        table, body = b"", b""
        for section, own in zip(sections, sums, strict=True):
            padding = -end % ALIGNMENT
            offset = end + padding
            table += ENTRY.pack(section.kind, section.flags, offset, len(section.content), own)
            body += bytes(padding) + section.content
            end = offset + len(section.content)
        header = HEADER.pack(self.magic, self.version, self.min_reader, self.kind, len(sections), end, 0)
        return signed(header + table + body)

    def with_section(self, position: int, content: bytes) -> "Container":
        """Put other bytes into a section."""
        sections = list(self.sections)
        sections[position] = replace(sections[position], content=content)
        return replace(self, sections=tuple(sections))


def block_checksums(content: bytes) -> bytes:
    """Checksums of the blocks of a section."""
    blocks = (content[start : start + BLOCK_BYTES] for start in range(0, len(content), BLOCK_BYTES))
    return b"".join(checksum(block).to_bytes(8, "little") for block in blocks)


def signed(content: bytes) -> bytes:
    """Make the checksum of header and section table right, whatever they say."""
    (count,) = struct.unpack_from("<H", content, 14)
    table = content[HEADER.size : HEADER.size + count * ENTRY.size]
    return content[:56] + struct.pack("<Q", checksum(content[:56] + table)) + content[HEADER.size :]


def name_in_manifests(folder: Path, name: str) -> None:
    """Make every manifest of the folder name the file `name` as it is now."""
    content = (folder / name).read_bytes()
    length, own = len(content), int.from_bytes(content[56:64], "little")

    def corrected(value: Any) -> Any:
        if isinstance(value, dict):
            if value.get("name") == name and "checksum" in value:
                return {**value, "length": length, "checksum": f"{own:016x}"}
            return {key: corrected(entry) for key, entry in value.items()}
        return [corrected(entry) for entry in value] if isinstance(value, list) else value

    for path in folder.glob("MANIFEST-*[0-9]"):
        container = Container.parse(path.read_bytes())
        stated = json.loads(container.sections[0].content)
        wanted = corrected(stated)
        if wanted != stated:
            path.write_bytes(container.with_section(0, json.dumps(wanted).encode()).build())


def section_at(content: bytes, offset: int) -> int | None:
    """Kind of the section that the byte at `offset` of a sound file belongs to; None between sections."""
    (count,) = struct.unpack_from("<H", content, 14)
    for position in range(count):
        kind, _, start, length, _ = ENTRY.unpack_from(content, HEADER.size + position * ENTRY.size)
        if start <= offset < start + length:
            return int(kind)
    return None
