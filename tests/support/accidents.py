"""Accidents that end a training."""


class StopAfter:
    """A tracker that ends the training after a step, as an accident would."""

    def __init__(self, step):
        self.step = step

    def log(self, row):
        if row["step"] == self.step:
            raise RuntimeError("an accident")

    def close(self):
        pass
