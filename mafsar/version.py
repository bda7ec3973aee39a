"""The version of mafsar."""

# The build reads it from here; asking the installed metadata for it takes tens of milliseconds.
__version__ = "0.1.0"
