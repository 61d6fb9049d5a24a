"""Code that several tests share: sample data, servers, gates and clients. Contains no tests."""
