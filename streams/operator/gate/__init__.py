"""The gate: whether a candidate generation may answer instead of the one that does (docs/designs/gate.md)."""
