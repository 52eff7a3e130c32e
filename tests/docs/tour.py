"""Takes the tour out of the README: its fenced blocks marked `bash tour`, in order."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
_BLOCK = re.compile(r"^```bash tour\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def tour(text: str) -> list[str]:
    """Return the shell code of the blocks."""
    return _BLOCK.findall(text)
