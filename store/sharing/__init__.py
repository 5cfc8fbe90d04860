"""Stores elsewhere: remote folders, the cache of shards, copies, exports."""
