"""Sets of numbers in mapped files (the registry snapshot and call lists), and the readers of their source files."""
