"""Callbacks of one function, for tests."""

from hannet.train import Callback


class OnProgress(Callback):
    def __init__(self, function):
        self.function = function

    def on_progress(self, state):
        self.function(state)


class OnEpoch(Callback):
    def __init__(self, function):
        self.function = function

    def on_epoch_end(self, state):
        self.function(state)
