"""`taskpilot doctor`: what is wrong, and what mends it."""

import click

from taskpilot.cli import output
from taskpilot.cli.options import global_options, json_option


@click.command(name="doctor")
@click.option("--stack", is_flag=True, help="Look at the servers of metrics, traces, logs and dashboards too.")
@json_option
def command(*, stack: bool, as_json: bool) -> int:
    """Say what is wrong and what mends it; change nothing.

    Looks at root, settings, job files, policies, store, model, prices, gateway, collector and crontab, and prints each setting
    with its source. Servers are asked, but nothing is pushed and no token is spent. With --stack also at Prometheus, Alertmanager,
    Jaeger, Elasticsearch, Grafana, and at what of our telemetry is not delivered.

    Exit status: 0 well, also with warnings; 1 an error; 78 the configuration is invalid.

    \b
    Examples:
      taskpilot doctor
      taskpilot doctor --stack
      taskpilot doctor --json
    """
    from pathlib import Path

    from taskpilot.cli.diagnosis_page import print_diagnosis
    from taskpilot.operations.doctor import examine
    from taskpilot.operations.doctor.shapes import diagnosis_json

    given = global_options()
    root, home, jobs = (None if text is None else Path(text) for text in (given.root, given.home, given.jobs))
    found = examine(root=root, home=home, jobs=jobs, log_level=given.log_level, stack=stack)
    given.exit_code = found.exit_code
    if as_json:
        output.print_json(diagnosis_json(found))
    else:
        print_diagnosis(found)
    return found.exit_code
