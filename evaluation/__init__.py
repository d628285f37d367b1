"""What a model can do, what it leaks, and how sure we are."""
