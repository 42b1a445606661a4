"""`python -m latewood`."""

from latewood.cli import main

if __name__ == "__main__":
    main()
