"""What networks learn from: digital heads with a known susceptibility, and their simulation."""
