"""``python -m chatsdk`` is the command ``chatsdk``."""

from chatsdk.cli import main

raise SystemExit(main())
