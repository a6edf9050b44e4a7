"""Public model names: limits, languages, interfaces."""
