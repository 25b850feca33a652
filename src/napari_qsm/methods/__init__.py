"""Reconstruction methods: one file each, found through the registry in `methods.registry`."""
