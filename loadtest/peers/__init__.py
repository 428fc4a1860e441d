"""Other engines, measured as ours is: the same model, the same prompts, the same machine, one after the other.

Each peer has a module here, which runs in the peer's own virtual environment (loadtest/peers/install), and a lock of
the same name in `requirements`. `python -m loadtest.peers` runs all that are installed, and ours.
"""
