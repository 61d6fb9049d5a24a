"""Cooperation of gates that share a store: membership, questions to peers, list replication.

No call waits for it.
"""
