"""Generic loops over operators; they know nothing of MRI and import only torch."""
