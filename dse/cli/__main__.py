"""``python -m dse.cli`` is the command ``dse``."""

from dse.cli import main

main()
