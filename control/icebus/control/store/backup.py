"""Saving control's database while control runs, checking what was saved, and putting it back.

SQLite's file is copied by SQLite itself; PostgreSQL's own ``pg_dump``, ``pg_restore`` and ``psql``
do the rest, with the password in their environment and never in their arguments.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlmodel import Session, select

from icebus.control.store.database import Database
from icebus.control.store.lease import LeaseRow
from icebus.schemas.errors import Conflict, IcebusError, InvalidRequest, ProgramMissing
from icebus.schemas.programs.logs import printable, shortened
from icebus.schemas.programs.private_files import make_private_folder

TIMEOUT = 600.0
"""Seconds for PostgreSQL's programs: a farm's database is some hundred megabytes at most."""

SUFFIXES = {"sqlite": ".db", "postgresql": ".dump"}
PREFIX = "control-"

_TABLES = ("alembic_version", "reservations", "devices")
"""Some that every backup has."""

_DROP_ALL = """
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tableowner = current_user
    LOOP
        EXECUTE format('DROP TABLE public.%I CASCADE', name);
    END LOOP;
END $$
"""
"""``pg_restore --clean`` drops only what the backup has: a table that a later version added would
stay, and keep control from bringing the older tables up to date."""

_SQLITE = b"SQLite format 3\0"
_DUMP = b"PGDMP"
"""What files begin with: https://www.sqlite.org/fileformat.html, and PostgreSQL's custom format."""


@dataclass(frozen=True)
class Saved:
    """A backup that was checked.

    Attributes:
        path: of the file.
        size: bytes.
        revision: of the tables; empty where the file alone does not say.
    """

    path: Path
    size: int
    revision: str


def save(url: str, directory: Path, keep: int) -> Saved:
    """Save a database into a new file, check that, and remove the oldest beyond some.

    Args:
        url: of the database.
        directory: made if missing, for its owner only.
        keep: files that stay, this one included.

    Raises:
        InvalidRequest: the database can't be read, or what was saved is damaged.
        ProgramMissing: PostgreSQL's programs are not installed.
    """
    where = _parsed(url)
    suffix = SUFFIXES[where.get_backend_name()]
    make_private_folder(directory)
    # By the time of day of the whole world, so that names sort when clocks are set.
    target = directory / f"{PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}{suffix}"
    made = target.with_name(target.name + ".new")
    try:
        made.touch(mode=0o600, exist_ok=False)
        if suffix == ".db":
            _copy(Path(where.database or ""), made)
        else:
            _run(["pg_dump", "--format=custom", f"--file={made}", *_connection(where)], where)
        saved = check(made)
        made.replace(target)
    finally:
        made.unlink(missing_ok=True)
    kept = sorted(directory.glob(f"{PREFIX}*{suffix}"))
    for old in kept[: max(0, len(kept) - keep)]:
        old.unlink(missing_ok=True)
    return Saved(target, saved.size, saved.revision)


def check(path: Path) -> Saved:
    """Look whether a file is a whole backup of control's database.

    Raises:
        InvalidRequest: it is not.
    """
    try:
        with path.open("rb") as file:
            beginning = file.read(16)
        size = path.stat().st_size
    except OSError as error:
        raise InvalidRequest(f"can't read the backup {path}: {error.strerror}") from None
    if beginning.startswith(_DUMP):
        try:
            listed = _run(["pg_restore", "--list", str(path)])
            # All of it is read, which finds what was cut off.
            _run(["pg_restore", f"--file={os.devnull}", str(path)])
        except InvalidRequest as error:
            raise _damaged(path, error.message) from None
        missing = [name for name in _TABLES if f" TABLE DATA public {name} " not in listed]
        if missing:
            raise _damaged(path, f"it has no table {', '.join(missing)}")
        return Saved(path, size, "")
    if beginning != _SQLITE:
        raise InvalidRequest(f"{path} is no backup that `icebus-control backup` has made")
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            [found] = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if found != "ok":
                raise _damaged(path, str(found))
            for table in _TABLES:
                connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
            [revision] = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.Error, TypeError) as error:
        raise _damaged(path, str(error)) from None
    return Saved(path, size, str(revision))


def restore(path: Path, url: str) -> Saved:
    """Put a backup in the place of a database, whole or not at all. All controls are to be stopped.

    Raises:
        InvalidRequest: the backup is damaged, of another kind of database, or can't be put there.
        Conflict: a control leads on the database.
        ProgramMissing: PostgreSQL's programs are not installed.
    """
    where = _parsed(url)
    saved = check(path)
    is_file = bool(saved.revision)
    if is_file is not (where.get_backend_name() == "sqlite"):
        kind = "SQLite" if is_file else "PostgreSQL"
        raise InvalidRequest(
            f"{path} is of {kind}, and the database is not; name another with ICEBUS_DATABASE"
        )
    if not is_file:
        _refuse_in_use(url)
        _replace_tables(path, where)
        _refresh_statistics(url)
        return saved
    target = Path(where.database or "")
    if target.exists():
        _refuse_in_use(url)
    try:
        made = target.with_name(target.name + ".new")
        make_private_folder(target.parent)
        shutil.copyfile(path, made)
        made.chmod(0o600)
        # What they hold belongs to the old file, and would be played into the new one.
        for suffix in ("-wal", "-shm"):
            target.with_name(target.name + suffix).unlink(missing_ok=True)
        made.replace(target)
    except OSError as error:
        raise InvalidRequest(f"can't restore {target}: {error.strerror}") from None
    _refresh_statistics(url)
    return saved


def _refresh_statistics(url: str) -> None:
    """Dumps have none, and control would be slow until somebody looks."""
    database = Database(url)
    database.refresh_statistics(all_tables=True)
    database.close()


def _replace_tables(path: Path, where: URL) -> None:
    with tempfile.TemporaryDirectory(prefix="icebus-restore-") as folder:
        script = Path(folder) / "tables.sql"
        _run(["pg_restore", "--no-owner", f"--file={script}", str(path)])
        options = ["--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1"]
        what = [f"--command={_DROP_ALL}", f"--file={script}"]
        _run(["psql", *options, *_connection(where), *what], where)


def _refuse_in_use(url: str) -> None:
    """Refuse while a control leads; of several one does, a moment after the others are stopped."""
    try:
        database = Database(url)
        with Session(database.engine) as session:
            lease = session.exec(select(LeaseRow)).first()
            leads = (
                lease is not None
                and bool(lease.session)
                and lease.expires > database.clock(session)
            )
        database.close()
    except (SQLAlchemyError, IcebusError):
        return  # it is what is to be replaced
    if leads:
        raise Conflict("a control runs on this database; stop all controls, then restore it")


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InvalidRequest("the database's URL is none; put it into ICEBUS_DATABASE") from None
    if parsed.get_backend_name() not in SUFFIXES:
        raise InvalidRequest(
            f"databases of {parsed.get_backend_name()} are saved by their own means"
        )
    return parsed


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise InvalidRequest(f"there is no database {source}; ICEBUS_DATABASE names it")
    try:
        uri = f"{source.absolute().as_uri()}?mode=ro"
        with (
            closing(sqlite3.connect(uri, uri=True, timeout=30)) as reader,
            closing(sqlite3.connect(target)) as writer,
        ):
            reader.backup(writer)
            # One file, which needs none beside it.
            writer.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise InvalidRequest(f"can't save the database {source}: {error}") from None


def _connection(where: URL) -> list[str]:
    query = {name: value for name, value in where.query.items() if name != "password"}
    open_to_all = URL.create(
        "postgresql", where.username, None, where.host, where.port, where.database, query
    )
    return [f"--dbname={open_to_all.render_as_string(hide_password=False)}"]


def _run(words: Sequence[str], where: URL | None = None) -> str:
    password = None if where is None else where.password or where.query.get("password")
    secret = {"PGPASSWORD": str(password)} if password else {}
    program = shutil.which(words[0])
    if program is None:
        raise ProgramMissing(
            f"{words[0]} is not installed; `sudo apt-get install postgresql-client`, of the "
            "server's version or newer",
            program=words[0],
        )
    try:
        done = subprocess.run(
            [program, *words[1:]],
            env={**os.environ, **secret},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InvalidRequest(f"{words[0]} did not end within {TIMEOUT:g} s") from None
    if done.returncode != 0:
        said = printable(shortened(" ".join(done.stderr.split()), 500))
        raise InvalidRequest(f"{words[0]} failed: {said}")
    return done.stdout


def _damaged(path: Path, why: str) -> InvalidRequest:
    return InvalidRequest(f"the backup {path} is damaged: {why}; take an older one")
