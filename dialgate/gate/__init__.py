"""The path of a call: queue, facts, batch and commit; also crash recovery and upkeep."""
