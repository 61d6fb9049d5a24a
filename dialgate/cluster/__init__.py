"""Cooperation between gates that share a store: membership, questions to peers, list replication.

The decision on a call never waits for another gate.
"""
