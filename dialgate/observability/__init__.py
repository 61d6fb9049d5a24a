"""What the program reports about itself: metrics, its service log, traces. Never a called number."""
