"""Reconciliation of the calls that left through a trunk with the decisions that allowed them."""
