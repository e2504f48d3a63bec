"""`taskpilot open`: the page of the server, logged in."""

import click

from taskpilot.cli import output
from taskpilot.domain.errors import TransitionRefused


@click.command(name="open")
@click.option("--print", "only_print", is_flag=True, help="Print the link, open no browser.")
def command(*, only_print: bool) -> None:
    """Open the page of the running server, logged in.

    Prints the login link, and opens it where this machine has a desktop. The link holds until the server ends.

    \b
    Examples:
      taskpilot open
      taskpilot open --print
    """
    from taskpilot.cli import bootstrap
    from taskpilot.config.caller import process_variables
    from taskpilot.web.tokens import opening_file, published_link

    settings = bootstrap.settings()
    link = published_link(settings.state_dir)
    if link is None or not _answers(link):
        raise TransitionRefused("no server of this folder runs on this machine", hint="taskpilot serve")
    output.say(link)
    if not only_print and output.on_terminal() and {"DISPLAY", "WAYLAND_DISPLAY"} & process_variables().keys():
        import webbrowser

        # Everybody on this machine may read the arguments of a browser: it gets a file that only we can read.
        webbrowser.open(opening_file(settings.state_dir, link).as_uri())


def _answers(link: str) -> bool:
    from http.client import HTTPConnection, HTTPException
    from urllib.parse import urlsplit

    server = HTTPConnection(urlsplit(link).netloc, timeout=5)
    try:
        server.request("GET", "/livez")
        return server.getresponse().status in (200, 503)
    except (OSError, HTTPException):
        return False
    finally:
        server.close()
