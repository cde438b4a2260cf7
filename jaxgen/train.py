"""`python -m jaxgen.train` is `jaxgen train`."""

import sys

from jaxgen.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
