"""Number sets in mapped files (registry snapshots and call lists), and readers of their source files."""
