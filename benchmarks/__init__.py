"""How well and how fast qasr hears on this machine: ``make bench``, or ``python -m benchmarks --help``."""
