"""Somebody else's exception in one line, for the inside of a UserError."""


def reason(error: BaseException, limit: int = 300) -> str:
    """The type and the message of ``error`` without line breaks, cut after ``limit`` characters."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    return text if len(text) <= limit else text[: limit - 1] + "…"
