"""The parts of tests/differential.py."""
