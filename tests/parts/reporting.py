"""What a test run says of the parts that it was to run on, and of those that it could not have."""

from collections.abc import Generator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import pytest

from tests.parts import VARIABLE, Kind

NOT_RUN: Final = "not run on containers"
NOT_RUN_STATUS: Final = 7
"""Exit status of a run in which nothing failed, but tests were not run that were asked for; pytest has 0 to 5."""


@dataclass(kw_only=True, eq=False)
class Reporting:
    """A plug-in of pytest. Tests that lack their parts are neither passed nor left out in silence: the run fails.

    Attributes:
        kind: what was asked for.
    """

    kind: Kind
    _skipped: int = field(default=0, init=False)

    @cached_property
    def why_not(self) -> str | None:
        """Why there are no containers, though they were asked for."""
        if self.kind == "embedded":
            return None
        # the embedded parts need no client of Docker
        from tests.parts.containers import why_not

        return why_not()

    def skip_without_engine(self) -> None:
        """Skip the test that asks for a part, where there is no engine."""
        if self.why_not is not None:
            pytest.skip(f"{NOT_RUN}: {self.why_not}")

    def pytest_report_header(self) -> str:
        """Name the parts."""
        return f"parts: {self.kind}" + (f" ({NOT_RUN}: {self.why_not})" if self.why_not else "")

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Fetch images before the first test, whose time is limited."""
        leads = not hasattr(session.config, "workerinput") and not session.config.option.collectonly
        if self.kind == "containers" and leads and self.why_not is None:
            from tests.parts.containers import Unobtainable, pull

            try:
                pull()
            except Unobtainable as error:
                pytest.exit(f"{NOT_RUN}: {error}", returncode=NOT_RUN_STATUS)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count what was skipped for want of an engine."""
        if report.skipped and isinstance(report.longrepr, tuple) and NOT_RUN in report.longrepr[2]:
            self._skipped += 1

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Let a run that lacked its parts end with a status of its own, unless it failed anyway."""
        if self._skipped and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = NOT_RUN_STATUS

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Generator[None]:
        """Say last how many tests were not run, and why."""
        yield
        if self._skipped:
            terminalreporter.write_line(
                f"NOT RUN: {self._skipped} tests asked for containers ({VARIABLE}=containers), and {self.why_not}. "
                f"This run says nothing about them; its exit status is {NOT_RUN_STATUS} if nothing else failed.",
                red=True,
            )
