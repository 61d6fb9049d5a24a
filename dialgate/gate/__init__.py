"""The path that a call takes from queue to commit, with crash recovery and upkeep."""
