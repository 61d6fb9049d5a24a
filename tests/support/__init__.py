"""What several tests use: sample data, servers to start, gates to ask. No tests."""
