"""The page at `/`: its files, and what it asks that programs do not."""
