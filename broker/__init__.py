"""The workflow broker: documents in, runs carried across sites, every decision explained."""

__version__ = "0.1.0"
