"""The FastAGI server that Asterisk asks, and the recall line."""
