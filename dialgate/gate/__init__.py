"""The path of a call: queue, facts, batch, commit, recovery, upkeep. Nothing else is fast enough to be needed here."""
