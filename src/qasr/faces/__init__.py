"""What clients see: one folder per dialect; a face imports neither an engine nor another face."""
