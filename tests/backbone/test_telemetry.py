"""Logs are JSON, metrics are documented, and workers answer for themselves."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from backbone.telemetry import METRICS, serve_worker_endpoint

ROOT = Path(__file__).parent.parent.parent


SET_UP = "import logging, structlog\nfrom backbone.telemetry import setup_logging\nsetup_logging('gateway')\n"


def logged(program: str) -> list[dict[str, Any]]:
    """Run a program in a process of its own, because pytest has handlers in this one; each line that it logs."""
    done = subprocess.run(
        [sys.executable, "-c", SET_UP + program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_both_kinds_of_loggers_write_one_json_object_a_line() -> None:
    ours, library = logged(
        "structlog.get_logger('ours').info('query accepted', query='q1')\n"
        "logging.getLogger('library').warning('broker %s is away', 'a:1')\n"
        "logging.getLogger('aiokafka.cluster').info('chatter')\n"
    )

    assert (ours["event"], ours["query"], ours["level"], ours["service"]) == ("query accepted", "q1", "info", "gateway")
    assert (library["event"], library["logger"], library["service"]) == ("broker a:1 is away", "library", "gateway")


def test_an_exception_is_on_one_line_without_the_local_variables() -> None:
    [line] = logged(
        "try:\n    question = 'what the user said'\n    1 / 0\n"
        "except Exception:\n    logging.getLogger('ours').exception('handler failed')\n"
    )

    assert line["exception"][0]["exc_type"] == "ZeroDivisionError"
    assert "what the user said" not in str(line)


def test_every_metric_has_help_and_our_prefix() -> None:
    for metric in METRICS:
        [family] = metric.describe()
        assert family.name.startswith("headrace_")
        assert family.documentation.endswith(".")


def test_a_process_that_does_not_end_says_what_it_does_and_ends() -> None:
    program = (
        "import asyncio, time\n"
        "from backbone.telemetry import end_within\n"
        "async def waits_for_ever():\n    await asyncio.Event().wait()\n"
        "async def main():\n"
        "    end_within(0.5, 74)\n"
        "    task = asyncio.create_task(waits_for_ever())\n"
        "    asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)\n"
        "    await asyncio.sleep(0.1)\n"
        "    raise SystemExit\n"
        "asyncio.run(main())\n"
    )

    done = subprocess.run([sys.executable, "-c", SET_UP + program], cwd=ROOT, capture_output=True, text=True)

    [line] = [json.loads(line) for line in done.stderr.splitlines() if "did_not_end" in line]
    assert done.returncode == 74
    # asyncio waits for its executor for ever
    assert any("shutdown_default_executor" in task or "run_until_complete" in task for task in line["threads"])
    assert "time.sleep" in "".join(line["threads"]) or "_worker" in "".join(line["threads"])


def test_the_stacks_of_tasks_are_told() -> None:
    program = (
        "import asyncio\n"
        "from backbone.telemetry import end_within\n"
        "async def waits_for_ever():\n    await asyncio.Event().wait()\n"
        "async def main():\n    end_within(0.3, 74)\n    await waits_for_ever()\n"
        "asyncio.run(main())\n"
    )

    done = subprocess.run([sys.executable, "-c", SET_UP + program], cwd=ROOT, capture_output=True, text=True)

    [line] = [json.loads(line) for line in done.stderr.splitlines() if "did_not_end" in line]
    assert (done.returncode, line["limit_s"]) == (74, 0.3)
    assert "waits_for_ever" in "".join(line["tasks"])


async def test_a_worker_answers_health_ready_and_metrics() -> None:
    parts = {"kafka": True, "encoder": False}
    async with (
        serve_worker_endpoint(0, lambda: parts) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        assert (await client.get("/health")).status_code == 200
        unready = await client.get("/ready")
        parts["encoder"] = True
        ready = await client.get("/ready")
        metrics = await client.get("/metrics")

    assert (unready.status_code, unready.json()["parts"]) == (503, {"kafka": True, "encoder": False})
    assert ready.status_code == 200
    assert "headrace_records_processed_total" in metrics.text


async def test_a_taken_port_is_an_error_that_says_so() -> None:
    async with serve_worker_endpoint(0, dict) as port:
        with pytest.raises(OSError, match=f"port {port} "):
            async with serve_worker_endpoint(port, dict):
                pass
