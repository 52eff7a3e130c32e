"""A producer that librdkafka has given up makes its process end, as only a new one can send."""

from confluent_kafka import KafkaError

from backbone.kafka import Publisher
from backbone.settings import KafkaSettings


def test_a_fatal_error_is_told_and_a_passing_one_is_not() -> None:
    told: list[str] = []
    publisher = Publisher(KafkaSettings(), on_broken=lambda: told.append("broken"))
    report = publisher._config["error_cb"]  # what librdkafka calls

    report(KafkaError(KafkaError._TRANSPORT, "broker away"))
    assert told == []

    report(KafkaError(KafkaError._FATAL, "out of order", True))
    assert told == ["broken"]
