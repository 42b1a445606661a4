"""Scripts that train the models this repository ships; no part of the installed package."""
