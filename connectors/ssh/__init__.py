"""Scripts and programs over the OpenSSH client: shared by the connector that submits and the mover that carries."""
