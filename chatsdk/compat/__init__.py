"""Adapters: our clients behind the interfaces of other packages."""
