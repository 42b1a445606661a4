"""The documents of an index → Arrow record batches."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from latewood.common.packages import import_optional
from latewood.common.progress import chunks
from latewood.common.types import IdSequence
from latewood.forms.ragged import Ragged
from latewood.index.results import Document

ROWS = 256
"""Documents of a batch."""


def record_batches(
    ids: IdSequence,
    dim: int,
    dtype: str,
    vectors: Callable[[IdSequence], Ragged],
    documents: Callable[[IdSequence], Sequence[Document]],
) -> Any:
    """Give a reader of batches with columns id, text, metadata (JSON) and vectors, each made when it is asked for."""
    pyarrow = import_optional("pyarrow", extra="arrow", purpose="Arrow output")
    number = {"float16": pyarrow.float16(), "float32": pyarrow.float32(), "float64": pyarrow.float64()}[dtype]
    schema = pyarrow.schema(
        [
            pyarrow.field("id", pyarrow.int64() if isinstance(ids, np.ndarray) else pyarrow.string(), nullable=False),
            pyarrow.field("text", pyarrow.string()),
            pyarrow.field("metadata", pyarrow.string()),
            pyarrow.field("vectors", pyarrow.list_(pyarrow.list_(number, dim))),
        ]
    )

    def batches() -> Iterator[Any]:
        for rows in chunks(len(ids), ROWS):
            own = ids[rows]
            stored = documents(own)
            columns = [
                pyarrow.array(own, schema.field("id").type),
                pyarrow.array([document.text for document in stored], pyarrow.string()),
                pyarrow.array([_json(document.metadata) for document in stored], pyarrow.string()),
                vectors(own).to_arrow(dtype=dtype),  # type: ignore[arg-type]
            ]
            yield pyarrow.record_batch(columns, schema=schema)

    return pyarrow.RecordBatchReader.from_batches(schema, batches())


def _json(metadata: Any) -> str | None:
    return None if metadata is None else json.dumps(metadata, ensure_ascii=False)
