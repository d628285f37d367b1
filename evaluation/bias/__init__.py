"""What a model tells about a protected attribute."""
