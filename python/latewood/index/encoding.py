"""The encoder of one index: which it is, which it should be, and what to say where there is none."""

import json
from inspect import signature
from typing import Any

from latewood.encode.fingerprint import check_fingerprint
from latewood.encode.nano import NAME, has_nano
from latewood.encode.protocol import Encoder, as_encoder
from latewood.errors import EncoderError, EncoderRequiredError

RECORDED = "recorded"
"""As `encoder=`, this word asks for the encoder that the index itself names."""


class Encoding:
    """The encoder that an index uses, next to what it has recorded of the one that filled it.

    Parameters
    ----------
    path : str
        The index's, for messages.
    dim : int
        Dimensions of its token vectors.
    recorded : str or None
        The fingerprint that it keeps, as JSON.
    encoder : Encoder, optional
        One that needs no check.
    """

    def __init__(self, path: str, dim: int, recorded: str | None, encoder: Encoder | None = None) -> None:
        self.path = path
        self.dim = dim
        self._stored = recorded
        self._encoder = encoder
        self.checked = True
        """Whether the encoder was compared with what is recorded; one that needs no check counts as that."""

    @property
    def recorded(self) -> dict[str, Any] | None:
        """The recorded fingerprint."""
        return None if self._stored is None else json.loads(self._stored)

    @property
    def encoder(self) -> Encoder | None:
        """What turns text into token vectors here, if anything; the encoder inside the wheel needs no asking."""
        if self._encoder is None and (self.recorded or {}).get("name") == NAME and has_nano():
            self.use(NAME, check=True)
        return self._encoder

    def use(self, encoder: Any, *, check: bool) -> None:
        """Take an encoder, or refuse one whose fingerprint differs from the recorded one."""
        if isinstance(encoder, str) and encoder == RECORDED:
            recorded = self.recorded
            if recorded is None:
                message = f"the index {self.path!r} records no encoder; pass the one that made its vectors"
                raise EncoderError(message)
            encoder = str(recorded["name"])
        own = as_encoder(encoder)
        if check:
            check_fingerprint(self._stored, own, path=self.path)
        self._encoder, self.checked = own, check

    def require(self, purpose: str) -> Encoder:
        """Give the encoder, or raise `EncoderRequiredError` with the remedy."""
        encoder = self.encoder
        if encoder is None:
            recorded = self.recorded
            remedy = "give encoder= where it is opened or built, or one to use_encoder, or vectors instead of text"
            if recorded:
                remedy = f'encoder="{RECORDED}" loads {recorded["name"]!r}, which it was built with; {remedy}'
            message = f"{purpose} needs an encoder, and the index {self.path!r} has none here; {remedy}"
            raise EncoderRequiredError(message)
        return encoder

    def labels(self, method: str, text: str | None, count: int) -> tuple[Any, ...] | None:
        """Name the tokens of a text by the encoder's `query_tokens`, `document_spans` and the like, if it can."""
        label = getattr(self._encoder, method, None)
        if text is None or label is None:
            return None
        # A text that was too long may have been cut where it was encoded.
        ways = ({}, {"long": "cut"}) if "long" in signature(label).parameters else ({},)
        for options in ways:
            tokens = tuple(label(text, **options))
            if len(tokens) == count:
                return tokens
        # Vectors that came from elsewhere, or were pooled, have no one-to-one tokens: better no labels than wrong ones.
        return None
