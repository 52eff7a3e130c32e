"""Contracts that every part of Headrace shares: events, topics, codec, ids, and the Postgres schema."""
