"""Tells Prometheus, and of failures the log, what the links of the answering chain do."""

from typing import Final

import structlog

from backbone import telemetry
from schemas.events import Answer
from streams.breaker import State
from streams.generate.model import Reason

_log = structlog.get_logger(__name__)

_OPEN: Final[dict[State, float]] = {"closed": 0.0, "half_open": 0.5, "open": 1.0}


class PrometheusChain:
    """`ChainObserver` on the metrics of this process."""

    def began(self, link: str, seconds: float) -> None:
        """Count the time to the first text."""
        telemetry.MODEL_FIRST_TEXT_SECONDS.labels(link).observe(seconds)

    def answered(self, answer: Answer) -> None:
        """Count the answer, its tokens and its invented marks."""
        telemetry.ANSWERS_WRITTEN.labels(answer.provider, str(answer.abstained).lower()).inc()
        telemetry.INVENTED_MARKS.labels(answer.provider).inc(answer.n_invented_marks)
        if answer.usage.prompt_tokens or answer.usage.completion_tokens:
            telemetry.MODEL_TOKENS.labels(answer.usage.model, "prompt").inc(answer.usage.prompt_tokens)
            telemetry.MODEL_TOKENS.labels(answer.usage.model, "answer").inc(answer.usage.completion_tokens)

    def failed(self, link: str, reason: Reason, message: str) -> None:
        """Count and log the failure."""
        telemetry.MODEL_FAILURES.labels(link, reason).inc()
        _log.warning("model_failed", link=link, reason=reason, message=message)


def show_breaker(endpoint: str, state: State) -> None:
    """Show the state of an endpoint's breaker."""
    telemetry.MODEL_BREAKER_OPEN.labels(endpoint).set(_OPEN[state])
