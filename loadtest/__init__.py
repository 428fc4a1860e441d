"""How the service behaves under load, and how its engine compares with others."""
