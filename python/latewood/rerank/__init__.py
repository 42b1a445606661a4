"""The second stage: MaxSim in floats without an index, first stages, fusion, and both stages together."""
