"""Tools for use with the gate: demonstration, backup, conformance kit and stand-alone verifier."""
