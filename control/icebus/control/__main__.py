"""``icebus-control``, also as ``python -m icebus.control``."""

from icebus.schemas.programs.installation import run_program


def main() -> None:
    """Run control, or say what it lacks."""
    run_program("icebus.control.cli", "icebus-control", "control")


if __name__ == "__main__":
    main()
