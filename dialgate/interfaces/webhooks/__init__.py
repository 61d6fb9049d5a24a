"""Delivery of revocations to webhooks and to the do-not-call lists of dialers."""
