"""Network architectures, their weights, and how they run; nothing here is trained."""
