"""What users did that cannot be done; every text is one sentence meant for them."""


class InputError(ValueError):
    """Input that cannot be used; its text is one sentence meant for the user."""


class ExistsError(InputError):
    """A file would be overwritten that nobody said may be."""
