"""Cooperation between gates that share a store: membership, shipped logs, questions to peers, list replication.

The decision on a call never waits for another gate.
"""
