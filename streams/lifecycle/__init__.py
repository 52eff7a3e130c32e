"""Stage: lifecycle."""
