"""Whether the policies of the root compile and say what they should."""

from taskpilot.policy import PolicyReport, RegoPolicy, check_policies
from taskpilot.settings import Settings


def check_policy(settings: Settings) -> PolicyReport:
    """What the policies in force say to known calls. Raises ConfigurationError that names file and line where one does not compile."""
    return check_policies(policy_of(settings))


def compile_policy(settings: Settings) -> None:
    """Compiles the policies in force. Raises ConfigurationError that names file and line."""
    policy_of(settings).compile()


def policy_of(settings: Settings) -> RegoPolicy:
    """The policies that the settings name; read, not compiled yet."""
    return RegoPolicy(files=settings.policy_files, default=settings.policy_default)
