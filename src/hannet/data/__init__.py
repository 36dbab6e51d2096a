"""The paper's data: made by formula, or read from the files of their publishers."""


class DataError(RuntimeError):
    """A data set that is missing, cut short or not what its publisher wrote; the message is one sentence for the user."""
