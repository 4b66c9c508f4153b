"""What a look at every image found, remembered between runs: a big data set is decoded for it only
once."""

import json
import warnings
from pathlib import Path

from lcmae.errors import InputError
from lcmae.runs.durable import write_atomically


class CheckedImages:
    """`recall()` -> {position: reason} of the unreadable images of an earlier look, or None;
    `remember` stores it."""

    def __init__(self, root: Path, fingerprint: str) -> None:
        self.file = root / "checked" / f"{fingerprint}.json"

    def recall(self) -> dict[int, str] | None:
        try:
            return {int(position): reason for position, reason in json.loads(self.file.read_text()).items()}
        except (OSError, ValueError, AttributeError):
            return None  # nothing stored, or not by us: look again

    def remember(self, unreadable: dict[int, str]) -> None:
        try:
            write_atomically(self.file, json.dumps(unreadable).encode())
        except InputError as error:
            warnings.warn(f"every run will check the images again: {error}", stacklevel=2)
