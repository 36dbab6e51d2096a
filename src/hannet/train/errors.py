"""What ends a training early; each message is one sentence for the user."""


class TrainingError(RuntimeError):
    """A training that could not continue."""


class TerminatedError(RuntimeError):
    """A training that SIGTERM ended."""


class CheckpointError(RuntimeError):
    """A checkpoint that no training can resume from.

    can_start_over: whether the training can begin anew once the checkpoint is removed.
    """

    def __init__(self, message: str, *, can_start_over: bool = False):
        super().__init__(f"{message}; remove it to start over" if can_start_over else message)
        self.can_start_over = can_start_over
