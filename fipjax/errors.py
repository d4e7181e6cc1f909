"""Errors that fipjax raises on purpose. Their messages are complete: main prints them without a traceback."""


class UserError(Exception):
    """Something the user gave is wrong: names the key or file, what was found, what is allowed."""


class Busy(UserError):
    """Another process works in this workdir."""


class NonFinite(UserError):
    """A loss became NaN or infinite; names the step, the modality and the last good checkpoint."""


class Interrupted(Exception):
    """SIGTERM arrived; the state is saved and the same command resumes."""
