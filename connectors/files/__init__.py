"""Ways to reach a site's small files, whatever runs its jobs: a folder that this machine sees, a shell, a bucket."""
