"""The text of `.env.example`, from the settings classes: every variable with its default, bounds and meaning."""

from collections.abc import Iterator
from typing import Any

from annotated_types import Ge, Le
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from backbone import settings

PREFIX = "HEADRACE_"
SECTIONS: tuple[tuple[str, type[BaseSettings]], ...] = (
    ("Kafka: gateway and workers", settings.KafkaSettings),
    ("Postgres: gateway and workers", settings.PostgresSettings),
    ("Object store: gateway and workers", settings.ObjectSettings),
    ("Valkey: gateway and workers", settings.ValkeySettings),
    ("The gateway", settings.GatewaySettings),
    ("Workers", settings.WorkerSettings),
)
CLIENT = """
# --- The command line, the Python client and the local stack ---

# address of the gateway; default: that of the local stack
# HEADRACE_URL=http://127.0.0.1:8080

# API key; default: the first key of the local stack
# HEADRACE_API_KEY=

# folder of the local stack's data
# HEADRACE_HOME=.headrace

# folder of what is downloaded for local stacks, shared by all of them
# HEADRACE_CACHE=~/.cache/headrace

# address of a mirror of Maven Central to fetch Kafka's jars from; default: Maven Central itself
# HEADRACE_MAVEN_URL=
"""


def env_example() -> str:
    """Return the text of `.env.example`; every variable is commented out at its default."""
    seen: set[str] = set()
    lines = ["# Made from backbone/settings.py by `make schemas`. Uncomment what you change."]
    for title, section in SECTIONS:
        lines += ["", f"# --- {title} ---"]
        for name, field in section.model_fields.items():
            if name not in seen:
                seen.add(name)
                lines += ["", *_variable(name, field)]
    return "\n".join(lines) + "\n" + CLIENT


def _variable(name: str, field: FieldInfo) -> Iterator[str]:
    bounds = [f"at least {each.ge}" for each in field.metadata if isinstance(each, Ge)]
    bounds += [f"at most {each.le}" for each in field.metadata if isinstance(each, Le)]
    yield f"# {field.description}" + (f" ({', '.join(bounds)})" if bounds else "")
    yield f"# {PREFIX}{name.upper()}={_value(field.default)}"


def _value(default: Any) -> str:
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    return "" if default is None else str(default)
