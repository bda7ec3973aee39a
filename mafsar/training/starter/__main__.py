"""``python -m mafsar.training.starter``: trains the shipped starter model again."""

from mafsar.training.starter.starter import main

raise SystemExit(main())
