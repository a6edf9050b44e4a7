"""The program ``qasr``."""
