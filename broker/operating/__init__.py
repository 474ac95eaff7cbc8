"""What operators say of the installation and its sites, each with an owner, a reason and an end; and what follows."""
