"""Sets of numbers in mapped files: the registry snapshot, call lists, and the readers of the files they come from."""
