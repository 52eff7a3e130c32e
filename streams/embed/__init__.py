"""Stage: embed."""
