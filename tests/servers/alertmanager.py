"""A real Alertmanager on a free port with the shipped configuration, sped up, and a webhook of the test."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.debian import require
from tests.servers.ports import free_port
from tests.servers.pushgateway import wait_for

SHIPPED = Path(__file__).parents[2] / "observability" / "alertmanager" / "alertmanager.yml"


def for_debian(webhook: str) -> str:
    """The shipped configuration with the webhook's address in it: Debian's Alertmanager 0.25 knows no `url_file` for it yet."""
    text, times = re.subn(r"url_file: \S+", f"url: {webhook}", SHIPPED.read_text())
    assert times == 1
    return text


@contextmanager
def alertmanager(folder: Path, webhook: str) -> Iterator[str]:
    """Runs one until the block ends; gives its `host:port`. Its log is `folder/alertmanager.log`."""
    binary = require("prometheus-alertmanager", "prometheus-alertmanager")
    # The times that an alert waits for others of its group, in seconds of a test.
    quick = re.sub(r"group_(wait|interval): \S+", r"group_\1: 1s", for_debian(webhook))
    (folder / "alertmanager.yml").write_text(quick)
    address = f"127.0.0.1:{free_port()}"
    arguments = [
        binary,
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
    ]
    with (folder / "alertmanager.log").open("wb") as log, subprocess.Popen(arguments, stdout=log, stderr=log, cwd=folder) as process:
        try:
            wait_for(f"http://{address}/-/ready", process)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
