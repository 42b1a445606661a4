"""One file for each adapter: the calls that `test_conformance.py` makes."""
