"""latewood inside of other frameworks: a module for each, which imports its framework when it is imported itself."""
