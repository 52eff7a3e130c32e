"""HTTP in, topics out; topics in, SSE out. Never embeds, searches or generates."""
