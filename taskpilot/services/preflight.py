"""Checks that every job could start in the environment of the server, before its first fire fails."""

from taskpilot.deployment import Deployment, compile_policy
from taskpilot.domain.errors import ConfigurationError, UsageError
from taskpilot.domain.reasons import NO_REASON, Reason, ReasonCode
from taskpilot.domain.specs import JobSpec
from taskpilot.jobs.parameters import check_parameters, parse_parameters
from taskpilot.ledger.claims import Definitions
from taskpilot.services.planning import check_channels, check_model_access, choose_model
from taskpilot.store.job_checks import JobCheck, replace_job_checks


def check_jobs(deployment: Deployment, jobs: Definitions) -> list[JobCheck]:
    """The check of each job, by name, which is stored for every view: parameters, channels, model, prices and policy. Raises StoreError."""
    now, policy = deployment.now(), _policy(deployment)
    found = [
        JobCheck(name, now, policy or _reason(deployment, spec), spec.deadline, spec.catch_up_window) for name, spec in jobs.specs.items()
    ]
    found += [JobCheck(name, now, Reason(ReasonCode.JOB_BROKEN, {"error": cause})) for name, cause in jobs.broken.items()]
    found.sort(key=lambda check: check.job)
    with deployment.store.write() as connection:
        replace_job_checks(connection, found)
    return found


def configuration_reason(error: ConfigurationError | UsageError) -> Reason:
    """Why a job cannot start, with what helps. The messages of these checks contain no secret."""
    parts = error.problems or (error,)
    hint = next((one.hint for one in parts if one.hint), None)
    text = "; ".join(map(str, parts))
    return Reason(ReasonCode.CONFIGURATION, {"error": text, "hint": hint} if hint else {"error": text})


def _policy(deployment: Deployment) -> Reason | None:
    if not deployment.settings.policy_files:
        return None
    try:
        compile_policy(deployment.settings)
    except ConfigurationError as error:
        return configuration_reason(error)
    return None


def _reason(deployment: Deployment, spec: JobSpec) -> Reason:
    try:
        if spec.schedule is None:
            # Whoever starts it gives its parameters.
            check_parameters(spec)
        else:
            parse_parameters(spec, [])
        check_channels(deployment, spec)
        check_model_access(deployment, spec, choose_model(deployment, spec, None), asked=False)
    except (ConfigurationError, UsageError) as error:
        return configuration_reason(error)
    return NO_REASON
