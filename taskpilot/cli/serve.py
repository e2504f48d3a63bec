"""`taskpilot serve`: the scheduler and the HTTP API."""

import click

from taskpilot.cli.options import global_options


@click.command(name="serve")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where HTTP listens.")
@click.option("--port", type=click.IntRange(0, 65535), metavar="N", help="Its port.  [default: PORT, or 8000]")
@click.option("--fork-server", is_flag=True, hidden=True)
def command(*, host: str, port: int | None, fork_server: bool) -> int:
    """Run the scheduler and HTTP API.

    Ctrl-C or SIGTERM stops it: it starts no more runs and waits TASKPILOT_DRAIN_TIMEOUT (30 s) for those that run. A second one shortens
    the wait. Changed job files are read within seconds; SIGHUP reads them at once.

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
            echo=lambda line: click.echo(f"taskpilot: {line}", err=True),
        )
    finally:
        app.deployment.close()
    return 0
