"""The exceptions for errors that the user can fix, and for SIGTERM."""


class UserError(Exception):
    """An error that the user can fix, reported in one line, never with a traceback.

    `exit_code`: the program's exit code, 1 for data, files and environment, 2 for flags.
    """

    def __init__(self, message: str, exit_code: int = 1):
        super().__init__(" ".join(message.splitlines()))  # quoted values may contain line breaks
        self.exit_code = exit_code


class Terminated(BaseException):
    """Raised on SIGTERM, like KeyboardInterrupt on Ctrl-C."""


def usage_error(message: str) -> UserError:
    """Returns a UserError about the command line (exit code 2)."""
    return UserError(message, exit_code=2)
