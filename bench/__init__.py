"""What the engine costs, beside a loop that has none. `python -m bench --help`, docs/benchmark.md."""
