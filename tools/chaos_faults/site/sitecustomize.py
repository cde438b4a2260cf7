"""Python imports this first in every process of a round: their clock may be set back.

`time.time` differs from the machine's clock by the seconds in the file that $CHAOS_CLOCK names.
"""

import os
import time

_path = os.environ.get("CHAOS_CLOCK", "")
_machine_time = time.time

if _path:

    def _time() -> float:
        with open(_path) as file:
            return _machine_time() + float(file.read() or 0)

    time.time = _time
