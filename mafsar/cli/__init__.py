"""The ``mafsar`` command: one thin file a verb, one error door (``app.py``)."""
