"""What the programs cost, measured on the machine at hand: `python -m benchmarks NAME`."""
