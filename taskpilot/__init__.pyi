from taskpilot.context.run_context import RunContext as RunContext
from taskpilot.domain.errors import BudgetExceeded as BudgetExceeded
from taskpilot.domain.errors import Denied as Denied
from taskpilot.domain.errors import ItemError as ItemError
from taskpilot.domain.errors import ModelError as ModelError
from taskpilot.domain.errors import ModelRefused as ModelRefused
from taskpilot.domain.errors import ModelUnavailable as ModelUnavailable
from taskpilot.domain.errors import ReplyInvalid as ReplyInvalid
from taskpilot.domain.errors import RequirementNotMet as RequirementNotMet
from taskpilot.domain.errors import TaskPilotError as TaskPilotError
from taskpilot.domain.errors import ToolFailed as ToolFailed
from taskpilot.domain.errors import Waiting as Waiting
from taskpilot.domain.specs import Budget as Budget
from taskpilot.domain.specs import InputFile as InputFile
from taskpilot.domain.specs import Retry as Retry
from taskpilot.domain.text import one_line as one_line
from taskpilot.jobs.decorator import job as job
from taskpilot.schedules.schedule import at as at
from taskpilot.schedules.schedule import cron as cron
from taskpilot.schedules.schedule import every as every
from taskpilot.tools.decorator import tool as tool

__version__: str
