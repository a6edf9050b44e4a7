"""What can hear: one adapter per model family behind small ports (``base.py``); heavy imports inside functions."""
