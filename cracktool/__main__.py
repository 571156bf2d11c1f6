"""``python -m cracktool``: the same as the command ``crack``."""

from cracktool.cli import main

main()
