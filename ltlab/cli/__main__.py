"""`python -m ltlab.cli` is the command line `ltlab`, too."""

from .line import main

if __name__ == "__main__":
    main()
