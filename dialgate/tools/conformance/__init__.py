"""The conformance kit for dialers: emulated dialers and switches, faulty gates, and the verdict on each case."""
