"""jaxgen: scaled pretraining of generalist models, and honest answers to questions of scale."""

__version__ = "0.1.0"
