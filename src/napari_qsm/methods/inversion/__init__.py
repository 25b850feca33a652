"""Dipole inversion: a local field in, susceptibility out."""
