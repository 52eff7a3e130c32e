"""Stage: chunk."""
