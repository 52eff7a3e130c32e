"""The product's front: the CLI and the embedded stack."""
