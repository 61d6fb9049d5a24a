"""Tools for use with the gate: demonstration, backup, conformance kit, stand-alone verifier and benchmarks."""
