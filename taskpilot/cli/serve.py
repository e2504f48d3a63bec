"""`taskpilot serve`: keeps time, starts what is due, and answers over HTTP."""

import click

from taskpilot.cli.options import global_options


@click.command(name="serve")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where HTTP listens.")
@click.option("--port", type=click.IntRange(0, 65535), metavar="N", help="Its port.  [default: PORT, or 8000]")
@click.option("--fork-server", is_flag=True, hidden=True)
def command(*, host: str, port: int | None, fork_server: bool) -> int:
    """Keep time: start every job when it is due, and answer over HTTP.

    SIGTERM or Ctrl-C ends it: no new fires, and its runs get TASKPILOT_DRAIN_TIMEOUT (30 s) to end. A second one cuts that short. SIGHUP
    reads the job files again; a changed file is seen by itself within seconds.

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
            say=lambda line: click.echo(f"taskpilot: {line}", err=True),
        )
    finally:
        app.deployment.close()
    return 0
