"""`python -m meshd.cli.meshctl`: the same as `meshctl`."""

from meshd.cli.meshctl import main

main()
