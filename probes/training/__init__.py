"""How a bank of probes is trained: passes that fit the memory, weights kept by val, and states to go on from."""
