"""Faces of Slurm's REST API: OLCF's S3M, and a plain slurmrestd of 22.05 (v0.0.38) or newer (v0.0.41 to v0.0.44)."""

from sandbox.faces.slurmrest.face import SlurmRestFace
from sandbox.faces.slurmrest.form import VERSIONS
from sandbox.faces.slurmrest.machine import Booking, Machine, Partition, machine_of
from sandbox.faces.slurmrest.s3m import S3mFace
from sandbox.faces.slurmrest.tokens import Token, TokenBook

__all__ = [
    "VERSIONS",
    "Booking",
    "Machine",
    "Partition",
    "S3mFace",
    "SlurmRestFace",
    "Token",
    "TokenBook",
    "machine_of",
]
