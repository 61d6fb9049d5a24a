"""Number sets in mapped files (registry snapshots and call lists), readers of their source files, and holds on imports."""
