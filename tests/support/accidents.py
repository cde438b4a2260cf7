"""Accidents that end a training."""


class StopAfter:
    """A tracker that ends the training after a step, as an accident would."""

    def __init__(self, step, error=None):
        self.step, self.error = step, error or RuntimeError("an accident")

    def log(self, row):
        if row["step"] == self.step:
            raise self.error

    def close(self):
        pass
