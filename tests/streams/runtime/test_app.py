"""What a stage tells Faust."""

import faust
import pytest
from pydantic import SecretStr
from yarl import URL

from backbone.settings import KafkaSettings
from streams.runtime.app import Timing, broker_options


def test_every_bootstrap_address_reaches_faust() -> None:
    assert broker_options(KafkaSettings(kafka_bootstrap="a:1, b:2")) == {
        "broker": [URL("kafka://a:1"), URL("kafka://b:2")]
    }


def test_credentials_reach_faust() -> None:
    options = broker_options(
        KafkaSettings(kafka_security_protocol="SASL_SSL", kafka_username="u", kafka_password=SecretStr("p"))
    )
    credentials = options["broker_credentials"]
    assert isinstance(credentials, faust.SASLCredentials)
    assert (credentials.username, credentials.password) == ("u", "p")
    assert credentials.mechanism is not None and credentials.mechanism.value == "SCRAM-SHA-512"
    assert credentials.protocol.value == "SASL_SSL"


def test_a_password_without_encryption_is_sent_as_the_settings_say() -> None:
    options = broker_options(KafkaSettings(kafka_security_protocol="SASL_PLAINTEXT", kafka_username="u"))
    assert options["broker_credentials"].protocol.value == "SASL_PLAINTEXT"


def test_draining_must_end_before_a_rebalance_does() -> None:
    with pytest.raises(ValueError, match=r"drain_s 20.0 must be above 0 and below rebalance_s 20.0"):
        Timing(drain_s=20.0)
