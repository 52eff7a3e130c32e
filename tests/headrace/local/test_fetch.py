"""The fetcher, against a repository on this machine."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from headrace.local.artefacts import Jar, Model
from headrace.local.fetch import FetchError, cached, fetch_jar, fetch_jars, fetch_model, place_model

CONTENT = b"jar" * 50_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
JAR = Jar(group="org.example", artifact="thing", version="1", sha256=SHA256)


class Repository:
    """A server that gives each answer of a list once: content, how long it claims to be, status."""

    def __init__(self, *answers: tuple[bytes, int, int]) -> None:
        self.answers = list(answers)
        self.paths: list[str] = []
        repository = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                repository.paths.append(self.path)
                content, length, status = repository.answers.pop(0)
                self.send_response(status)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/maven2"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False) as client:
        yield client


def whole(content: bytes = CONTENT) -> tuple[bytes, int, int]:
    return content, len(content), 200


def left_in(cache: Path) -> list[str]:
    return [path.name for path in cache.rglob("*") if path.is_file()]


def no_sleep(_: float) -> None:
    return None


def test_a_jar_is_fetched_once_and_then_needs_no_network(tmp_path: Path, client: httpx.Client) -> None:
    repository = Repository(whole())

    first = fetch_jar(JAR, tmp_path, client=client, base_url=repository.url, sleep=no_sleep)
    repository.server.server_close()
    second = fetch_jar(JAR, tmp_path, client=client, base_url="http://127.0.0.1:1", sleep=no_sleep)

    assert (first, second) == (150_000, 0)
    assert repository.paths == ["/maven2/org/example/thing/1/thing-1.jar"]
    found = cached(SHA256, "thing-1.jar", tmp_path)
    assert found is not None
    assert found.read_bytes() == CONTENT


def test_a_truncated_and_a_failed_answer_are_tried_again(tmp_path: Path, client: httpx.Client) -> None:
    repository = Repository((CONTENT[:1000], len(CONTENT), 200), (b"", 0, 503), whole())

    assert fetch_jar(JAR, tmp_path, client=client, base_url=repository.url, sleep=no_sleep) == 150_000
    assert left_in(tmp_path) == ["thing-1.jar"]


def test_other_content_is_refused_and_leaves_nothing(tmp_path: Path, client: httpx.Client) -> None:
    repository = Repository(*[whole(b"something else")] * 4)

    with pytest.raises(FetchError, match=f"the lock says {SHA256}"):
        fetch_jar(JAR, tmp_path, client=client, base_url=repository.url, sleep=no_sleep)
    assert left_in(tmp_path) == []


def test_what_the_repository_does_not_have_is_asked_for_once(tmp_path: Path, client: httpx.Client) -> None:
    repository = Repository((b"", 0, 404))

    with pytest.raises(FetchError, match="answered 404"):
        fetch_jar(JAR, tmp_path, client=client, base_url=repository.url, sleep=no_sleep)


def test_without_a_network_the_message_names_address_and_cure(tmp_path: Path, client: httpx.Client) -> None:
    with pytest.raises(FetchError, match=r"http://127\.0\.0\.1:1/org/example.*HEADRACE_MAVEN_URL"):
        fetch_jar(JAR, tmp_path, client=client, base_url="http://127.0.0.1:1", sleep=no_sleep)


def test_a_file_damaged_in_the_cache_is_fetched_again(tmp_path: Path, client: httpx.Client) -> None:
    repository = Repository(whole(), whole())
    fetch_jar(JAR, tmp_path, client=client, base_url=repository.url, sleep=no_sleep)
    (path,) = (path for path in tmp_path.rglob("*.jar"))
    path.write_bytes(CONTENT[:1000])

    assert fetch_jar(JAR, tmp_path, client=client, base_url=repository.url, sleep=no_sleep) == 150_000
    assert path.read_bytes() == CONTENT


def test_the_address_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = Repository(whole())
    monkeypatch.setenv("HEADRACE_MAVEN_URL", repository.url + "/")

    assert fetch_jars((JAR,), tmp_path) == 150_000


def model(sha256: str) -> Model:
    return Model(name="m", package="headrace-no-such-wheel", version="1", sha256=sha256, files={"p/model.bin": sha256})


def test_a_cached_model_is_placed_without_pip(tmp_path: Path) -> None:
    place = tmp_path / "cache" / SHA256[:2] / SHA256 / "model.bin"
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)

    assert fetch_model(model(SHA256), tmp_path / "cache") == 0
    place_model(model(SHA256), tmp_path / "cache", tmp_path / "home" / "m")
    place_model(model(SHA256), tmp_path / "cache", tmp_path / "home" / "m")
    assert (tmp_path / "home" / "m" / "model.bin").read_bytes() == CONTENT


def test_a_wheel_that_pip_cannot_get_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")

    with pytest.raises(FetchError, match=r"pip could not fetch headrace-no-such-wheel 1: .*Check the network"):
        fetch_model(model(SHA256), tmp_path)
