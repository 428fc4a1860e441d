"""How fast the engine is on this machine, and how near to what the machine can do."""
