"""Stage: intake."""
