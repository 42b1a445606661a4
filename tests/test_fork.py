"""A forked child has no threads of its parent's pool; the index must work in it all the same."""

import os

import pytest

from latewood import Index
from strategies import Corpus
from support import run_python

FORK = """
import json, os, sys
from latewood import Index, maxsim
from strategies import make_corpus

corpus = make_corpus(7, documents=400, queries=16)
index = Index.open(sys.argv[1])
parent = [hit.id for hits in index.search_batch(corpus.queries, 5) for hit in hits]
maxsim(corpus.queries, corpus.documents)
child = os.fork()
if child == 0:
    found = [hit.id for hits in index.search_batch(corpus.queries, 5) for hit in hits]
    maxsim(corpus.queries, corpus.documents)
    with index.writer() as writer:
        writer.upsert([0], vectors=corpus.documents[:1])
    os._exit(0 if found == parent else 1)
_, status = os.waitpid(child, 0)
again = [hit.id for hits in index.search_batch(corpus.queries, 5) for hit in hits]
print(json.dumps([os.waitstatus_to_exitcode(status), again == parent]))
"""


LOADING = """
import json, os, threading
from latewood.encode import SentenceTransformersEncoder
from latewood.encode.loading import loading

held, done = threading.Event(), threading.Event()
def load():
    with loading():
        held.set()
        done.wait()
thread = threading.Thread(target=load)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    SentenceTransformersEncoder(type("Model", (), {"encode_query": print})()).model
    os._exit(0)
_, status = os.waitpid(child, 0)
done.set()
thread.join()
print(json.dumps(os.waitstatus_to_exitcode(status)))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_model_that_was_loading_at_the_fork() -> None:
    """The thread that loads it in the parent is not in the child, which loads its own."""
    assert run_python(LOADING, environment={"PYTHONWARNINGS": "ignore"}, timeout=60) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_searches_and_writes(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> None:
    index = Index.create(tmp_path_factory.mktemp("fork") / "index", dim=corpus.dim)
    index.add(range(len(corpus.documents)), vectors=corpus.documents)
    assert run_python(FORK, index.path, environment={"PYTHONWARNINGS": "ignore"}) == [0, True]
