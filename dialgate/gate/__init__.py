"""The path of a call, from queue to commit, with crash recovery and upkeep."""
