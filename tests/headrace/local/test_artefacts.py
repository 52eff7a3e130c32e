"""The committed list of artefacts."""

from pathlib import Path

import pytest

from headrace.local.artefacts import read_lock

SHA256 = "0" * 64
LOCK = f"""
[[jar]]
group = "org.example"
artifact = "thing_2.13"
version = "1.2"
sha256 = "{SHA256}"

[[opensearch]]
group = "org.example"
artifact = "plugin"
version = "3"
sha256 = "{SHA256}"
packaging = "zip"

[model]
name = "m"
package = "p"
version = "1"
sha256 = "{SHA256}"
files = {{ "p/model.bin" = "{SHA256}" }}

[language_model]
name = "l"
package = "q"
version = "1"
sha256 = "{SHA256}"
files = {{ "q/model.gguf" = "{SHA256}" }}
"""


def lock(folder: Path, text: str) -> Path:
    path = folder / "artefacts.lock.toml"
    path.write_text(text)
    return path


def test_a_jar_lies_where_maven_puts_it(tmp_path: Path) -> None:
    (jar,) = read_lock(lock(tmp_path, LOCK)).jars

    assert jar.path == "org/example/thing_2.13/1.2/thing_2.13-1.2.jar"


def test_a_zip_file_lies_beside_the_jars(tmp_path: Path) -> None:
    (plugin,) = read_lock(lock(tmp_path, LOCK)).opensearch

    assert plugin.path == "org/example/plugin/3/plugin-3.zip"


def test_the_committed_list_holds_kafka_opensearch_the_encoder_and_a_language_model_and_no_address() -> None:
    artefacts = read_lock()

    assert len(artefacts.jars) == 47
    assert {jar.version for jar in artefacts.jars if jar.group == "org.apache.kafka"} == {"4.1.2"}
    assert {jar.version for jar in artefacts.opensearch if jar.group == "org.opensearch"} == {"2.19.6"}
    assert [jar.artifact for jar in artefacts.opensearch if jar.packaging == "zip"] == ["opensearch-knn"]
    assert [Path(name).name for name in artefacts.model.files] == ["model.safetensors", "tokenizer.json"]
    assert [Path(name).suffix for name in artefacts.language_model.files] == [".gguf"]
    assert "://" not in Path("headrace/local/artefacts.lock.toml").read_text()


@pytest.mark.parametrize(
    "damage",
    [
        ("version", "versio"),
        (f'sha256 = "{SHA256}"', 'sha256 = "12"'),
        ("[model]", "[x]"),
        ("[language_model]", "[y]"),
        ("[[opensearch]]", "[[z]]"),
    ],
)
def test_a_damaged_list_is_refused(tmp_path: Path, damage: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="restore"):
        read_lock(lock(tmp_path, LOCK.replace(*damage)))
