"""Linear operators and constants of the measurement; knows torch and nothing else."""
