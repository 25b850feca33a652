"""Files in, files out: the only ring that knows nibabel."""
