"""Models and their prices: the only rooms that talk to an LLM, or know what one costs."""

from taskpilot.models.offline import OfflineModel
from taskpilot.models.openai_chat import OpenAIModel
from taskpilot.models.opening import check_model, open_model
from taskpilot.models.prices import Prices

__all__ = ["OfflineModel", "OpenAIModel", "Prices", "check_model", "open_model"]
