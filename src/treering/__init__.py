"""treering turns a recipe and a corpus into an open language-model release that anyone can check."""

__version__ = "0.3.0"
