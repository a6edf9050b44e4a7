"""How hearing is done: one stage, one file; ``recorded.py`` composes them, read it first."""
