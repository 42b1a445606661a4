"""Judgements of the collections that ir_datasets knows by name."""

from typing import Any

from latewood.common.packages import import_optional
from latewood.errors import InvalidInputError
from latewood.evaluate.trec import Qrels
from latewood.forms.values import text_of


def dataset_qrels(name: str) -> Qrels:
    """Give the judgements of a data set of ir_datasets, which fetches them where they are not on this machine yet.

    Parameters
    ----------
    name : str
        Such as "beir/scifact/test" or "msmarco-passage/trec-dl-2019/judged".

    Returns
    -------
    mapping of query id to {document id: relevance}

    Raises
    ------
    MissingDependencyError
        ir_datasets is not installed (extra `datasets`).
    InvalidInputError
        There is no such data set, or it has no judgements, or these cannot be fetched.
    """
    name = text_of(name, "the name of a data set")
    package: Any = import_optional("ir_datasets", extra="datasets", purpose=f"the data set {name!r}")
    try:
        dataset = package.load(name)
    except KeyError as error:
        message = f"ir_datasets knows no data set {name!r}; https://ir-datasets.com lists them"
        raise InvalidInputError(message) from error
    if not dataset.has_qrels():
        message = f"the data set {name!r} has no judgements; name one of its splits, such as '{name}/test'"
        raise InvalidInputError(message)
    qrels: Qrels = {}
    try:
        for judgement in dataset.qrels_iter():
            qrels.setdefault(judgement.query_id, {})[judgement.doc_id] = judgement.relevance
    # Networks, disks and archives fail in many ways.
    except Exception as error:
        message = f"the judgements of the data set {name!r} cannot be read: {type(error).__name__}: {error}"
        raise InvalidInputError(message) from error
    return qrels
