"""Backups of the database, and what must happen when one is restored.

A backup is one SQLite file in our own tables, whatever database it was taken from: so an installation moves from
SQLite to PostgreSQL, and back, by backup and restore.
"""

from broker.backup.reading import DamagedBackup, Opened, open_backup
from broker.backup.restoring import Restored, restore
from broker.backup.writing import BackedUp, back_up_file, back_up_server

__all__ = [
    "BackedUp",
    "DamagedBackup",
    "Opened",
    "Restored",
    "back_up_file",
    "back_up_server",
    "open_backup",
    "restore",
]
