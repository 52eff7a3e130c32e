"""A whole stack whose own processes reach Kafka, Postgres, Valkey and a language model through proxies."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headrace.local.home import Home
from headrace.local.parts import port_names, settings
from headrace.local.ports import free_ports, keep_ports
from headrace.local.table import Options
from tests.proxy import Proxy, kafka_listener, proxy
from tests.stack import Stack, running

ADDRESSES = {
    "kafka": "HEADRACE_KAFKA_BOOTSTRAP",
    "postgres": "HEADRACE_POSTGRES_DSN",
    "valkey": "HEADRACE_VALKEY_URL",
}


@dataclass(frozen=True, kw_only=True)
class Proxied:
    """A running stack and the proxies before its parts: `kafka`, `postgres`, `valkey`, and `llm` if there is one.

    What asks the stack from outside, as `Stack.sql` does, goes past the proxies.
    """

    stack: Stack
    proxies: Mapping[str, Proxy]


@contextmanager
def running_proxied(folder: Path, options: Options | None = None, *, llm_port: int | None = None) -> Iterator[Proxied]:
    """Run a stack on one broker, with the keys of two tenants, while the block runs.

    Args:
        folder: its home.
        options: what it is made of.
        llm_port: where a language model listens, which is to write the answers.
    """
    home, options = Home(folder), options or Options()
    home.make()
    ports = keep_ports(home.ports, port_names(options))
    (behind,) = free_ports(1)
    with ExitStack() as resources:
        proxies = {name: resources.enter_context(proxy(ports[name])) for name in ("postgres", "valkey")}
        proxies["kafka"] = resources.enter_context(proxy(behind))
        env = {
            variable: settings(home, ports)[variable].replace(f":{ports[part]}", f":{proxies[part].port}")
            for part, variable in ADDRESSES.items()
        }
        if llm_port is not None:
            proxies["llm"] = resources.enter_context(proxy(llm_port))
            env |= {
                "HEADRACE_LLM_BASE_URL": f"http://127.0.0.1:{proxies['llm'].port}/v1",
                "HEADRACE_LLM_MODEL": "proxied",
            }
        listener = kafka_listener(
            port=ports["kafka"],
            controller_port=ports["kafka-controller"],
            behind=behind,
            proxy_port=proxies["kafka"].port,
        )
        changed = msgspec.structs.replace(options, env={**env, **options.env}, kafka={**listener, **options.kafka})
        yield Proxied(stack=resources.enter_context(running(folder, changed)), proxies=proxies)
