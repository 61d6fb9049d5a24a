"""The FastAGI server for Asterisk.

It checks calls, and serves the recall line for people who call back a caller ID.
"""
