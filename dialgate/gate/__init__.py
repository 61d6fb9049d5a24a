"""The path of a call: queue, facts, batch, commit, recovery, upkeep. No other code runs before a response."""
