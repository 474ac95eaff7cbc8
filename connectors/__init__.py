"""What a site can say and do. Connectors know nothing of workflows."""
