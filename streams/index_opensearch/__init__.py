"""The stage that writes a generation to OpenSearch."""
