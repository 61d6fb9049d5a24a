"""The FastAGI server for Asterisk.

It checks outbound calls, and runs the recall line for people who call a caller ID back.
"""
