"""In place of torch, first on the path of processes whose jobs compute nothing: each saves the seconds of importing it."""


def set_num_threads(count: int) -> None:
    """What a process for jobs asks of torch, first of all."""
