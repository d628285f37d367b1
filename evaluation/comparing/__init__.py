"""Finished runs: found, sorted into configurations, and compared."""
