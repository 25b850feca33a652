"""Wrappers around any method; one file each."""
