"""What every other part may use: types, optional packages, progress, files."""
