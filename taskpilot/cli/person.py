"""Who types: recorded with each answer that a person gives."""

import os


def name_of(given: str | None) -> str:
    """The name given by `--by`, else the user's of this process; never asked of the environment, which anybody can set."""
    if given:
        return given
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()}"
