"""Pure functions on text that several stages share: where sentences stand, and which words carry meaning."""
