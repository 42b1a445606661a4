"""Imports point one way: downwards in an order of folders that stands here, and in no circle."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

CORE = [
    "error",
    "room",
    "parallel",
    "ids",
    "tokens",
    "maxsim",
    "pooling",
    "codec",
    "storage",
    "format",
    "index",
    "search",
]
"""Folders and files of `rust/core/src`, the lowest first: each imports those before it, and itself."""

BINDINGS = ["errors", "stop", "arrays", "detach", "options", "maxsim", "pooling", "results", "writer", "index"]
"""The same of `rust/bindings/src`."""

LIBRARY = [
    "_core",
    "errors",
    "common",
    "forms",
    "show",
    "cloud",
    "train",
    "encode",
    "index",
    "client",
    "exchange",
    "rerank",
    "cluster",
    "evaluate",
    "integrations",
    "serve",
    "cli",
    "__main__",
]
"""The same of `python/latewood`."""

Graph = dict[str, set[str]]
"""Which files each file imports, by their paths under the root."""


def test_the_core_imports_one_way() -> None:
    assert problems(rust_imports(ROOT / "rust/core/src"), CORE, root="lib.rs") == []


def test_the_bindings_import_one_way() -> None:
    assert problems(rust_imports(ROOT / "rust/bindings/src"), BINDINGS, root="lib.rs") == []


def test_the_package_imports_one_way() -> None:
    assert problems(python_imports(ROOT / "python/latewood"), LIBRARY, root="__init__.py") == []


def problems(graph: Graph, order: list[str], root: str) -> list[str]:
    """Tell every circle and every import that points upwards. `root` is the file that may import all others."""
    place = {name: position for position, name in enumerate(order)}
    # The folder or file under the root that each file belongs to.
    parts = {file: Path(file).parts[0].removesuffix(Path(file).suffix) for file in graph if file != root}
    unplaced = sorted(set(parts.values()) - set(place))
    upwards = [
        f"{file} imports {other}, which is above it"
        for file, own in sorted(parts.items())
        for other in sorted(graph[file])
        if other == root or place.get(parts[other], -1) > place.get(own, -1)
    ]
    return [
        *(f"circle: {' -> '.join(circle)}" for circle in circles(graph)),
        *(f"{name} has no place in the order" for name in unplaced),
        *upwards,
    ]


def circles(graph: Graph) -> list[list[str]]:
    """Find a circle in each set of files that import each other (Tarjan's components, then a way round)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components: list[set[str]] = []

    def visit(file: str) -> None:
        index[file] = low[file] = len(index)
        stack.append(file)
        for other in sorted(graph.get(file, ())):
            if other not in index:
                visit(other)
                low[file] = min(low[file], low[other])
            elif other in stack:
                low[file] = min(low[file], index[other])
        if low[file] == index[file]:
            component = set()
            while file not in component:
                component.add(stack.pop())
            components.append(component)

    for file in sorted(graph):
        if file not in index:
            visit(file)
    return [way_round(graph, component) for component in components if len(component) > 1]


def way_round(graph: Graph, component: set[str]) -> list[str]:
    """Give a shortest way from the first file of a component back to it."""
    start = min(component)
    ways = [[start]]
    while True:
        ways = [[*way, other] for way in ways for other in sorted(graph[way[-1]] & component)]
        back = [way for way in ways if way[-1] == start]
        if back:
            return back[0]


# Rust: a graph from `mod`, `use` and paths. A `pub use` passes a name on: who imports it imports the file that has it.

TOKEN = re.compile(
    r"""//[^\n]* | /\*.*?\*/ | r(?P<hashes>\#*)"(?:.*?)"(?P=hashes) | "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])'""",
    re.DOTALL | re.VERBOSE,
)
"""Comments, strings and characters: what is no code."""

USE = re.compile(r"(?P<public>pub(?:\([^)]*\))?\s+)?\buse\s+(?P<tree>[^;]+);")
PATH = re.compile(r"(?<![\w:.$])(\w+(?:::\w+)+)")


class Module:
    """One file of a crate."""

    def __init__(self, name: str, file: Path, parent: "Module | None") -> None:
        self.name, self.file, self.parent = name, file, parent
        # `pub(in crate::folder)` names who may import, and imports nothing.
        code = re.sub(r"\bpub\(in [^)]*\)", "pub", without_tests(TOKEN.sub(" ", file.read_text())))
        uses = list(USE.finditer(code))
        self.body = USE.sub(" ", code)
        self.children: dict[str, Module] = {}
        folder = file.parent if file.name in ("mod.rs", "lib.rs") else file.with_suffix("")
        for child in re.findall(r"\bmod\s+(\w+)\s*;", self.body):
            place = next(path for path in (folder / f"{child}.rs", folder / child / "mod.rs") if path.is_file())
            self.children[child] = Module(child, place, self)
        self.passed_on: dict[str, list[str]] = {}
        self.used: list[list[str]] = []
        for use in uses:
            for path, alias in leaves(use["tree"]):
                if use["public"] and path[0] in self.children:
                    self.passed_on[alias] = path
                else:
                    self.used.append(path)

    def tree(self) -> Iterator["Module"]:
        """Give this module and all below it."""
        yield self
        for child in self.children.values():
            yield from child.tree()

    def paths(self) -> Iterator[list[str]]:
        """Give every path that the code names, those in `use` among them."""
        yield from self.used
        for path in PATH.findall(self.body):
            yield path.split("::")
        for name, path in self.passed_on.items():
            # A function must be called, because many things have the names of functions.
            word = rf"(?<![\w.]){name}\b" if name[0].isupper() else rf"(?<![\w.])(?<!fn ){name}\s*(?:\(|::)"
            if re.search(word, self.body):
                yield path

    def find(self, path: list[str]) -> "Module | None":
        """Find the module that a path leads to, or in which the item is that it leads to; none for another crate's."""
        here: Module | None = self
        first, rest = path[0], path[1:]
        if first == "crate":
            while here is not None and here.parent is not None:
                here = here.parent
        elif first == "super":
            here = self.parent
        elif first != "self":
            if first not in self.children:
                return None
            rest = path
        while here is not None and rest:
            name = rest[0]
            if name == "super":
                here, rest = here.parent, rest[1:]
            elif name in here.children:
                here, rest = here.children[name], rest[1:]
            elif name in here.passed_on:
                return here.find([*here.passed_on[name], *rest[1:]])
            else:
                break
        return here


def without_tests(code: str) -> str:
    """Leave out what is compiled for tests or for documentation alone."""
    for mark in ("#[cfg(test)]", "#[cfg(doc)]"):
        while mark in code:
            start = code.index(mark)
            end = re.compile(r"[;{]").search(code, start + len(mark))
            stop = end.end() if end else len(code)
            depth = 1 if end and end[0] == "{" else 0
            while depth:
                depth += {"{": 1, "}": -1}.get(code[stop], 0)
                stop += 1
            code = code[:start] + code[stop:]
    return code


def leaves(tree: str) -> Iterator[tuple[list[str], str]]:
    """Give the path and the name of everything in the tree of a `use`."""
    tree = tree.strip()
    if "{" not in tree:
        path, _, alias = tree.partition(" as ")
        names = [name.strip() for name in path.split("::") if name.strip()]
        if len(names) > 1 and names[-1] == "self":
            names.pop()
        yield names, alias.strip() or names[-1]
        return
    prefix, inner = tree[: tree.index("{")], tree[tree.index("{") + 1 : tree.rindex("}")]
    depth, start = 0, 0
    for position, character in enumerate(f"{inner},"):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            if inner[start:position].strip():
                yield from leaves(prefix + inner[start:position].strip())
            start = position + 1


def rust_imports(source: Path) -> Graph:
    """Read the graph of a crate's files."""
    crate = Module("crate", source / "lib.rs", None)
    graph: Graph = {}
    for module in crate.tree():
        found = (module.find(path) for path in module.paths())
        files = {str(other.file.relative_to(source)) for other in found if other is not None}
        own = str(module.file.relative_to(source))
        graph[own] = files - {own}
    return graph


# Python: a graph from import statements, wherever they stand, but for those that only type checkers see.


def python_imports(source: Path) -> Graph:
    """Read the graph of a package's files."""
    package = source.name
    files = {
        module_name(file, source): file for file in sorted(source.rglob("*.py*")) if file.suffix in (".py", ".pyi")
    }
    graph: Graph = {}
    for name, file in files.items():
        home = name if file.name == "__init__.py" else name.rpartition(".")[0]
        imports = set()
        for module, names in imported(ast.parse(file.read_text()), home):
            for imports_name in names or [""]:
                below = f"{module}.{imports_name}"
                target = below if below in files else module
                if target == package or target.startswith(f"{package}."):
                    imports.add(target)
        graph[str(file.relative_to(source))] = {
            str(files[other].relative_to(source)) for other in imports - {name} if other in files
        }
    return graph


def module_name(file: Path, source: Path) -> str:
    """Give the name under which a file is imported."""
    parts = [source.name, *file.relative_to(source).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.Module, home: str) -> Iterator[tuple[str, list[str]]]:
    """Give modules with the names that are imported from them; no names for a module as a whole."""
    for node in running(tree.body):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, []
        elif isinstance(node, ast.ImportFrom):
            base = home.split(".")[: len(home.split(".")) - node.level + 1] if node.level else []
            yield ".".join([*base, *([node.module] if node.module else [])]), [alias.name for alias in node.names]


def running(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Give all nodes but those behind `if TYPE_CHECKING`."""
    for node in nodes:
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from running(node.orelse)
        else:
            yield from running(ast.iter_child_nodes(node))


# The checkers themselves, on small trees.


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


CRATE = {
    "lib.rs": "//! use crate::ghost;\nmod low;\nmod high;\npub use low::Thing;\n",
    "low.rs": "pub struct Thing; // crate::high\n#[cfg(test)]\nmod tests { use crate::high::Tall; fn f() { {} } }\n",
    "high/mod.rs": "mod a;\nmod b;\npub use a::Tall;\npub(crate) use b::{one, Other as Another};\nuse crate::Thing;\n",
    "high/a.rs": "use super::b;\npub(in crate::high) struct Tall(b::Other);\n",
    "high/b.rs": 'pub struct Other;\npub fn one() -> &\'static str { "crate::high::Tall" }\n',
}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        # Upwards, in a `use`, a nested one, a path, and through a name that is passed on.
        ({"low.rs": "use crate::high::Tall;"}, "low.rs imports high/a.rs, which is above it"),
        ({"low.rs": "use crate::{high::{b::Other}};"}, "low.rs imports high/b.rs, which is above it"),
        ({"low.rs": "fn f() { crate::high::one(); }"}, "low.rs imports high/b.rs, which is above it"),
        ({"low.rs": "use crate::high::Another;"}, "low.rs imports high/b.rs, which is above it"),
        ({"low.rs": "use super::Thing2;"}, "low.rs imports lib.rs, which is above it"),
        # Circles: between files, and between a module and its child, whose names are used and not only passed on.
        ({"high/b.rs": "use super::a::Tall; pub struct Other;"}, "circle: high/a.rs -> high/b.rs -> high/a.rs"),
        ({"high/b.rs": "use super::Tall; pub struct Other;"}, "circle: high/a.rs -> high/b.rs -> high/a.rs"),
        (
            {"high/mod.rs": CRATE["high/mod.rs"] + "pub struct Up(Tall);", "high/a.rs": "use super::Up; struct Tall;"},
            "circle: high/a.rs -> high/mod.rs -> high/a.rs",
        ),
        (
            {"high/mod.rs": CRATE["high/mod.rs"] + "fn f() { one() }", "high/b.rs": "fn g() { super::f() }"},
            "circle: high/b.rs -> high/mod.rs -> high/b.rs",
        ),
        (
            {"lib.rs": "mod low; mod high; mod new;", "new.rs": "use crate::low::Thing;"},
            "new has no place in the order",
        ),
    ],
)
def test_the_checker_of_rust_sees_it(tmp_path: Path, change: dict[str, str], problem: str | None) -> None:
    found = problems(rust_imports(write(tmp_path, CRATE | change)), ["low", "high"], root="lib.rs")
    assert found == [] if problem is None else problem in found


PACKAGE = {
    "pkg/__init__.py": "from pkg.high.a import Tall\nfrom . import low\n",
    "pkg/low.py": "import typing\nif typing.TYPE_CHECKING:\n    from pkg.high.a import Tall\n",
    "pkg/high/__init__.py": "",
    "pkg/high/a.py": "from pkg.high.b import Other\nfrom .. import low\n",
    "pkg/high/b.py": "from pkg.low import Thing\nimport os.path\n",
}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"pkg/low.py": "from pkg.high import a"}, "low.py imports high/a.py, which is above it"),
        ({"pkg/low.py": "import pkg.high.b"}, "low.py imports high/b.py, which is above it"),
        ({"pkg/low.py": "from .high.b import Other"}, "low.py imports high/b.py, which is above it"),
        ({"pkg/low.py": "def f():\n    from pkg.high.a import Tall"}, "low.py imports high/a.py, which is above it"),
        ({"pkg/low.py": "from pkg import Tall"}, "low.py imports __init__.py, which is above it"),
        ({"pkg/high/b.py": "from pkg.high import a"}, "circle: high/a.py -> high/b.py -> high/a.py"),
        ({"pkg/new.py": "from pkg import low"}, "new has no place in the order"),
    ],
)
def test_the_checker_of_python_sees_it(tmp_path: Path, change: dict[str, str], problem: str | None) -> None:
    folder = write(tmp_path, PACKAGE | change) / "pkg"
    found = problems(python_imports(folder), ["low", "high"], root="__init__.py")
    assert found == [] if problem is None else problem in found
