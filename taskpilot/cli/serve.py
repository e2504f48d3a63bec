"""`taskpilot serve`: the scheduler and the HTTP API."""

import click

from taskpilot.cli import output
from taskpilot.cli.options import global_options


@click.command(name="serve")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), metavar="N", help="Port to listen on.  [default: PORT, or 8000]")
@click.option("--quiet", is_flag=True, help="Print no line for each run, only what is wrong.")
@click.option("--fork-server", is_flag=True, hidden=True)
def command(*, host: str, port: int | None, quiet: bool, fork_server: bool) -> int:
    """Run the scheduler and HTTP API.

    SIGTERM or Ctrl-C stops it: it starts no new runs and waits TASKPILOT_DRAIN_TIMEOUT (30 s) for the active ones. A second signal ends the
    wait. Changed job files and settings are read again within seconds, or at once on SIGHUP.

    It prints a line for each run that starts and ends, and for each scheduled time that did not start.

    \b
    Examples:
      taskpilot serve
      taskpilot serve --port 9000
    """
    from taskpilot.app.wiring import App
    from taskpilot.cli import bootstrap

    settings = bootstrap.settings()
    app = App(settings)
    if fork_server:
        import socket

        with socket.socket(fileno=0) as connection:
            app.serve_orders(connection)
        return 0
    from taskpilot.app.server import fork_server_command, serve

    given = global_options()
    options = ["--root", str(settings.root), "--home", str(settings.state_dir), "--jobs", str(settings.jobs_dir)]
    if given.log_level:
        options += ["--log-level", given.log_level]
    try:
        serve(
            app,
            engine_command=fork_server_command(*options),
            host=host,
            port=port,
            echo=lambda line: output.echo_err(f"taskpilot: {line}", wrap=False),
            quiet=quiet,
        )
    finally:
        app.deployment.close()
    return 0
