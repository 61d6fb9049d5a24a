"""What holds a dialer to its promise: an Asterisk that is none, gates that behave badly, and who tells what came of it."""
