"""`python -m jaxcifar.report`: see `run_report.main`."""

import sys

from jaxcifar.host.signals import Stopping

if __name__ == "__main__":
    Stopping()  # before the imports that take a while
    from jaxcifar.report.run_report import main

    sys.exit(main(sys.argv[1:]))
