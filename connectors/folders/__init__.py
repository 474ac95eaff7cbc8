"""Folders of this machine as ends of a transfer: what is to be brought, whose fault a failure is, putting in place."""
