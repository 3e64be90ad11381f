"""`python -m treering`, the same as `treering`."""

from treering.cli.main import main

main()
