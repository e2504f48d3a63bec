"""What the peers run, each by the interpreter of their own environment: `python peer_programs.py dbos|celery FOLDER`.

Each reads a line for each round and answers with the seconds that the round took, so that rounds of several programs can take turns.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def three_steps_with_dbos(folder: Path) -> Callable[[], None]:
    """A workflow of three steps over SQLite."""
    from dbos import DBOS

    DBOS(
        config={"name": "bench", "system_database_url": f"sqlite:///{folder}/dbos.sqlite", "log_level": "ERROR", "run_admin_server": False}
    )

    @DBOS.step()
    def following(number: int) -> int:
        return number + 1

    @DBOS.workflow()
    def three_steps() -> int:
        number = 0
        for _ in range(3):
            number = following(number)
        return number

    DBOS.launch()

    def work() -> None:
        assert three_steps() == 3

    return work


def a_task_with_celery(folder: Path) -> Callable[[], None]:
    """A task in a process of its own, by a worker that is running already; Redis is the broker and keeps the result."""
    import subprocess

    from celery import Celery

    url = f"redis+socket://{folder}/redis.sock"
    app = Celery("bench", broker=url, backend=url)
    program = folder / "bench_tasks.py"
    program.write_text(
        f"from celery import Celery\napp = Celery('bench', broker={url!r}, backend={url!r})\n"
        "@app.task(name='three_steps')\ndef three_steps():\n    return 3\n"
    )
    command = [sys.executable, "-m", "celery", "-A", "bench_tasks", "worker", "--concurrency=1", "--max-tasks-per-child=1", "-l", "ERROR"]
    worker = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    import atexit

    atexit.register(worker.kill)

    def work() -> None:
        assert app.send_task("three_steps").get(timeout=60) == 3

    return work


def main() -> None:
    """Answers each line with the seconds of one round."""
    programs: dict[str, Any] = {"dbos": three_steps_with_dbos, "celery": a_task_with_celery}
    work = programs[sys.argv[1]](Path(sys.argv[2]))
    work()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for _ in sys.stdin:
        began = time.perf_counter()
        work()
        sys.stdout.write(f"{time.perf_counter() - began}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
