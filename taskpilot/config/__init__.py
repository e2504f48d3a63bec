"""The only reader of the environment and the configuration files; its values are frozen."""

from taskpilot.config.load import Survey, load, survey
from taskpilot.config.model import Secret, Settings
from taskpilot.config.reread import reread
from taskpilot.config.root import SETTINGS_FILE, check_trusted, find_root

__all__ = ["SETTINGS_FILE", "Secret", "Settings", "Survey", "check_trusted", "find_root", "load", "reread", "survey"]
