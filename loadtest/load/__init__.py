"""Simulated readers: what they ask, how they read, how many there are, and what they saw."""
