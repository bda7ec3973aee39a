"""``python -m mafsar`` is the ``mafsar`` command."""

from mafsar.cli.app import main

if __name__ == "__main__":
    main()
