"""Metrics, service log and traces. They never contain a called number."""
