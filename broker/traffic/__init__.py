"""Data on its way: movements as rows, routes, transfers of whole batches, what links teach, where copies lie."""

from broker.traffic.desk import Desk

__all__ = ["Desk"]
