"""Globus as a service: who we are there, one way for all calls, its errors as ours, paths on a collection.

What the mover (`connectors.globus`) and files through a collection (`connectors.files.collection`) both need. Nothing
in here knows of transfers or of jobs.
"""
