"""One file per technology: what ports promise, kept by a vendor's SDK."""
