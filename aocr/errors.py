"""The exception for mistakes that a user can fix, and the one that SIGTERM raises."""


class UserError(Exception):
    """A mistake or a missing thing that the user can fix: reported in one line, never as a traceback.

    `exit_code` is what the program ends with: 1 for data, files and environment, 2 for flags.
    """

    def __init__(self, message: str, exit_code: int = 1):
        super().__init__(" ".join(message.splitlines()))  # values that it cites may hold ends of lines
        self.exit_code = exit_code


class Terminated(BaseException):
    """SIGTERM came: what KeyboardInterrupt is to Ctrl-C."""


def usage_error(message: str) -> UserError:
    """A UserError about the command line (exit code 2)."""
    return UserError(message, exit_code=2)
