"""Stage: retrieve."""
