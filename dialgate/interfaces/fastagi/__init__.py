"""The FastAGI server for Asterisk, and the recall line."""
