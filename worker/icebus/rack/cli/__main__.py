"""``python -m icebus.rack.cli``."""

from icebus.rack.cli import main

if __name__ == "__main__":  # processes that simulate import this
    main()
