"""Follows partitions of a topic for many readers at once: one shared reader, a memory of the last records, catch-up."""
