"""A Kubernetes API over a facility: batch/v1 Jobs, their pods and logs."""

from sandbox.faces.kubernetes.face import KubernetesFace

__all__ = ["KubernetesFace"]
