"""Delivery of revocations to webhooks and to dialers' own lists."""
