"""What we talk about: pure values, without I/O, without async, without a framework."""
