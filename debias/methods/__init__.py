"""Ways to fit an ``Eraser``: one method, one file."""
