"""The two kinds of failure a user meets."""


class UserError(Exception):
    """Something the user can mend. One line: what is wrong, where, and what to type next.

    The stage scripts print it without a traceback and exit with status 1.
    """


class LeakError(UserError):
    """Rows that must be strangers have met (a patient in two folds, a member of another fold table). Never a warning."""
