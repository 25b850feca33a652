"""Qt views on the workbench; the only place, with `workbench.layers`, that knows the window."""
