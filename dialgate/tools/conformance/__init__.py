"""The conformance kit for dialers: emulated dialers, faulty gates, and the verdict on each case."""
