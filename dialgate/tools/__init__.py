"""Tools for use with the gate: demonstration, backup, conformance kit, capacity, policy cases and stand-alone verifier."""
