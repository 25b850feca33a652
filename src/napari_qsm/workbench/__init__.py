"""The state of the application without a window: what is loaded, what runs, what is shown."""
