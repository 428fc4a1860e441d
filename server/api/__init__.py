"""The HTTP side: one module a topic."""
