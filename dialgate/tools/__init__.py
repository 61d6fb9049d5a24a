"""Programs around the gate: demonstration, backup, conformance kit, stand-alone verifier and benchmarks."""
