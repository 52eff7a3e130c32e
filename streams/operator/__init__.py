"""Stage: operator."""
