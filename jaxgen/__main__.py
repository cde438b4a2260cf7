"""`python -m jaxgen` is `jaxgen`."""

import sys

from jaxgen.cli import main

if __name__ == "__main__":
    sys.exit(main())
