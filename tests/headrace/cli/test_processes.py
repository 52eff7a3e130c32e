from tests.headrace.cli.conftest import Headrace


def test_a_worker_of_an_unknown_stage_is_a_usage_error(headrace: Headrace) -> None:
    result = headrace("worker", "--stages", "chunk,shred")

    assert result.exit_code == 2
    assert "'shred' is no stage" in result.output


def test_help_names_every_command(headrace: Headrace) -> None:
    output = headrace("--help").output

    assert [name for name in ("ingest", "ask", "search", "documents", "worker") if name not in output] == []
