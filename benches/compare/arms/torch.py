"""torch: the padded matrix product that people write, and the one that sentence-transformers has written for them."""

from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from compare.arm import FloatArray, IdArray, Reranker
from latewood.forms.ragged import Ragged


class Padded(Reranker):
    """One matrix product of a padded block of documents with the query, then a masked maximum and a sum in float32.

    Timed: the query to a tensor, picking and padding the candidates, and the arithmetic. The documents are tensors of
    the dtype before. Threads are torch's own.
    """

    BLOCK = 100
    """Documents padded at once: in larger blocks the memory is fetched from the system and given back each time."""

    def __init__(self, dtype: str) -> None:
        self.dtype: Any = getattr(torch, dtype)

    def prepare(self, documents: Ragged, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        values = torch.from_numpy(documents.values).to(self.dtype)
        self.documents = list(torch.split(values, documents.lengths.tolist()))

    @torch.inference_mode()
    def rerank(self, query: FloatArray, candidates: IdArray) -> Any:
        asked = torch.from_numpy(query).to(self.dtype)
        parts = []
        for start in range(0, len(candidates), self.BLOCK):
            block = [self.documents[i] for i in candidates[start : start + self.BLOCK]]
            padded = pad_sequence(block, batch_first=True)
            lengths = torch.tensor([len(document) for document in block])
            outside = torch.arange(padded.shape[1]) >= lengths[:, None]
            # Of the ways to write it, the quickest here: in bfloat16 the maximum takes longer than going to float32.
            products = (padded @ asked.T).float().masked_fill_(outside[:, :, None], -torch.inf)
            parts.append(products.amax(dim=1).sum(dim=1))
        return torch.cat(parts)

    def scores(self, answer: Any, query: FloatArray, candidates: IdArray) -> FloatArray:
        scores: FloatArray = answer.reshape(-1).numpy()
        return scores


class Util(Padded):
    """`sentence_transformers.util.maxsim` of the query and a list of tensors; it pads by itself.

    Timed: the query to a tensor, picking the candidates, and the call.
    """

    def __init__(self, dtype: str) -> None:
        from sentence_transformers.util import maxsim

        super().__init__(dtype)
        self.maxsim = maxsim

    @torch.inference_mode()
    def rerank(self, query: FloatArray, candidates: IdArray) -> Any:
        asked = torch.from_numpy(query).to(self.dtype)
        return self.maxsim(asked, [self.documents[i] for i in candidates])
