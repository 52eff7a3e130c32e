"""The embedded stack: Kafka, Postgres, gateway and workers on one machine, without Docker."""
