"""Ingests real documentation through the command line and asks prepared questions.

`python -m tests.bench.corpora --data DIR`; DIR holds docs_prometheus_md/md.tar.gz. The expected file of each question
stands in `prometheus_questions.json`.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.stack import running

QUESTIONS = Path(__file__).parent / "prometheus_questions.json"


def headrace(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would."""
    command = [sys.executable, "-c", "from headrace.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def cited(question: str) -> tuple[list[str], dict[str, Any]]:
    """Ask, and return the ids of the cited documents, in order, and the answer."""
    done = headrace("ask", question, "--collection", "prometheus", "--json", "--no-stream")
    answer = json.loads(done.stdout)
    return [citation["document_id"] for citation in answer["citations"]], answer


def main() -> None:
    """Print what became of each file that is not searchable, and of each question."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the datasets")
    folder = Path(tempfile.mkdtemp(prefix="headrace-corpora-"))
    with tarfile.open(parser.parse_args().data / "docs_prometheus_md" / "md.tar.gz") as archive:
        archive.extractall(folder / "md", filter="data")
    with running(folder / "home") as stack:
        os.environ.update(HEADRACE_URL=stack.url, HEADRACE_API_KEY="acme-key")
        begun = time.monotonic()
        done = headrace("ingest", str(folder / "md"), "--collection", "prometheus")
        print(f"ingest: exit code {done.returncode}, {time.monotonic() - begun:.1f} s\n{done.stdout}{done.stderr}")
        rows = stack.sql("SELECT status, failure_reason FROM documents WHERE collection = 'prometheus'")
        print(dict(Counter((row["status"], row["failure_reason"]) for row in rows)))
        right = 0
        for entry in json.loads(QUESTIONS.read_text()):
            documents, answer = cited(entry["question"])
            found = f"prometheus/{entry['expected']}" in documents
            right += found
            print(f"{'right' if found else 'WRONG'} {entry['question']}\n      {answer['answer'][:200]}")
            print(f"      {documents}")
        print(f"{right} of 10 cite the expected file")


if __name__ == "__main__":
    main()
