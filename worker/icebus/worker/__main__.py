"""``icebus-worker``, also as ``python -m icebus.worker``."""

from icebus.schemas.programs.installation import run_program


def main() -> None:
    """Run the worker, or say what it lacks."""
    run_program("icebus.worker.cli", "icebus-worker", "worker")


if __name__ == "__main__":
    main()
