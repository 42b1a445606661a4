"""Latewood and others, side by side: the same queries, candidates and threads, turn by turn."""
