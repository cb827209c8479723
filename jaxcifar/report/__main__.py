"""`python -m jaxcifar.report`: see `run_report.main`."""

import sys

from jaxcifar.host import terminal
from jaxcifar.host.signals import Stopping

if __name__ == "__main__":
    terminal.prepare()
    terminal.drop_what_cannot_be_written("stdout", "stderr")
    Stopping()  # before the imports that take a while
    from jaxcifar.report.run_report import main

    sys.exit(main(sys.argv[1:]))
