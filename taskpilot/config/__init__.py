"""The only reader of environment and configuration files; what it gives is frozen."""

from taskpilot.config.load import Survey, load, survey
from taskpilot.config.model import Secret, Settings
from taskpilot.config.root import SETTINGS_FILE, check_trusted, find_root

__all__ = ["SETTINGS_FILE", "Secret", "Settings", "Survey", "check_trusted", "find_root", "load", "survey"]
