"""`python -m ltlab` is the command line `ltlab`."""

from .cli import main

if __name__ == "__main__":
    main()
