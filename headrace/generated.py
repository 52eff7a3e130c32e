"""Every generated file of the repository: `python -m headrace.generated` writes them, `--check` only looks.

With `--check` it fails where a file is stale, or where a schema is left over from an event that is gone.
"""

import sys
from pathlib import Path

from backbone.telemetry import metrics_page
from gateway.openapi import document
from headrace.environment import env_example
from schemas.generate import JSON_SCHEMAS, json_schemas, topic_table

ROOT = Path(__file__).parent.parent


def files() -> dict[Path, str]:
    """Return the content of each generated file, by path relative to the repository."""
    return json_schemas() | {
        Path("docs/topics.md"): topic_table(),
        Path("docs/metrics.md"): metrics_page(),
        Path("docs/openapi.json"): document(),
        Path(".env.example"): env_example(),
    }


def stale(root: Path, wanted: dict[Path, str]) -> tuple[list[Path], list[Path]]:
    """Return the files that differ from what is wanted, and the schemas that nobody wants any more."""
    differing = [path for path, text in wanted.items() if not _holds(root / path, text)]
    present = [path.relative_to(root) for path in sorted((root / JSON_SCHEMAS).glob("*.json"))]
    return differing, [path for path in present if path not in wanted]


def main() -> int:
    """Write, or look; returns 1 when `--check` found something stale."""
    wanted = files()
    differing, left_over = stale(ROOT, wanted)
    if "--check" in sys.argv[1:]:
        for path in differing + left_over:
            sys.stderr.write(f"{path} is stale; run: make schemas\n")
        return int(bool(differing or left_over))
    for path in differing:
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(wanted[path])
    for path in left_over:
        (ROOT / path).unlink()
    return 0


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main())
