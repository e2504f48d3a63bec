"""Why a job file cannot be used, as a sentence."""

from taskpilot.domain.specs import FileProblem


def file_problem(problem: FileProblem, detail: str = "") -> str:
    """The sentence for a problem that has no text of its own; `detail` is its number, signal or output."""
    match problem:
        case FileProblem.NOT_A_FILE:
            return f"it is {detail}, not a regular file"
        case FileProblem.TOO_LARGE:
            return f"it, or what it defines, is larger than {detail}"
        case FileProblem.TIME:
            return f"it was not loaded within {detail} s: work belongs into the job's function"
        case FileProblem.SIGNAL:
            return f"the process that loaded it was ended by {detail}"
        case FileProblem.EXITED:
            return f"it ended the process that loaded it, with status {detail}"
        case FileProblem.FORKED:
            return "it forks a process when it is loaded: work belongs into the job's function"
        case FileProblem.PRINTED:
            return f"it prints when it is loaded ({detail}): use ctx.log in the job's function"
        case FileProblem.NO_DEFINITION:
            return "the process that loaded it gave no definition of a job that can be read"
        case _:
            return f"it cannot be used ({problem}{f': {detail}' if detail else ''})"
