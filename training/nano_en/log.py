"""What a run says while it goes: JSON lines, on the terminal and kept beside the checkpoints."""

import json
import sys

from training.nano_en.settings import Settings


def say(settings: Settings, **fields: object) -> None:
    """Write one line.

    Parameters
    ----------
    settings : Settings
    **fields
        What it says, JSON values.
    """
    line = json.dumps(fields) + "\n"
    sys.stdout.write(line)
    sys.stdout.flush()
    settings.work.mkdir(parents=True, exist_ok=True)
    with (settings.work / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(line)
