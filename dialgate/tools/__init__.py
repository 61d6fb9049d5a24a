"""Tools for use with the gate: demonstration, backup, conformance kit, capacity and stand-alone verifier."""
