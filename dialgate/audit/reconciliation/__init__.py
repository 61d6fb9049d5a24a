"""Reconciliation of a trunk's call detail records with the log, to find every call that bypassed the gate."""
