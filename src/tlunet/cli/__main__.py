"""``python -m tlunet.cli``: the same as ``tlunet``."""

from tlunet.cli import main

main()
