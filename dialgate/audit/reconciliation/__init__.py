"""Reconciliation: matches calls that left a trunk with the decisions that allowed them."""
