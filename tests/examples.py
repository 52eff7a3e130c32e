"""Runs state machines: how many examples they try; `MORE_EXAMPLES=50` tries fifty times as many.

Where `CI` is set, hypothesis tries the same ones each time.
"""

import os
from collections.abc import Callable
from typing import Any, Final, cast

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

VARIABLE: Final = "MORE_EXAMPLES"


def examples(n: int, *, steps: int) -> settings:
    """Return settings of a state machine: examples, and steps of each at most."""
    return settings(
        max_examples=n * int(os.environ.get(VARIABLE, "1")),
        stateful_step_count=steps,
        deadline=None,
        # a machine on a real store may be slow where others use the machine
        suppress_health_check=[HealthCheck.too_slow],
    )


def try_out(make: Callable[[], RuleBasedStateMachine], n: int, *, steps: int) -> None:
    """Try examples of a machine, each made anew."""
    # hypothesis says that it wants a class, and only calls it
    run_state_machine_as_test(cast(Any, make), settings=examples(n, steps=steps))
