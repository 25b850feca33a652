"""Source separation: paramagnetic and diamagnetic susceptibility apart, one method per file."""
