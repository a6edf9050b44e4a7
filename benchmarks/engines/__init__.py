"""``make bench-engines``: Qwen3-ASR at its true size with random weights. See docs/benchmarks-engines.md."""
