"""Programs beside the gate: demonstration, backup, conformance kit, stand-alone verifier, benchmarks."""
