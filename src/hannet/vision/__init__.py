"""Classifiers of images: training, inference, and the data that attacks and certificates are measured on."""


class SettingError(ValueError):
    """A setting that cannot be used; the message is one sentence for the user.

    setting: the name of the setting at fault, None if no single one is.
    """

    def __init__(self, message: str, setting: str | None = None):
        super().__init__(message)
        self.setting = setting
