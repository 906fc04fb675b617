"""`meshd` (and `python -m meshd`): the command for the machine one sits at."""

from meshd.cli.meshd import main

if __name__ == "__main__":
    main()
