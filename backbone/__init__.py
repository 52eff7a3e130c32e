"""Connections to Kafka, Postgres and the object store; no word of the domain."""
