"""How good a map is, and how sure one may be of it."""
