"""Other libraries' folders and files ↔ an index."""
