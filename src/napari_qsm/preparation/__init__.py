"""From what was loaded to a checked acquisition whose field is in ppm."""
