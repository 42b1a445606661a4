"""The log of a service: one JSON object a line, on standard error."""

import json
import logging

from latewood.serve.application import LOG


class _Line(logging.Formatter):
    """Makes one JSON object of whatever is logged; what the service tells is one already."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.name == LOG.name and record.exc_info is None:
            return text
        told = json.loads(text) if record.name == LOG.name else {"time": record.created, "message": text}
        if record.exc_info is not None:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told)


def log_lines() -> None:
    """Log so, unless the program logs in a way of its own."""
    if not LOG.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(_Line())
        logging.basicConfig(handlers=[handler])
        # They would be lines of plain text among the others.
        logging.captureWarnings(True)
    LOG.setLevel(logging.INFO)
