"""What a rehearsal facility looks like from outside: one face per protocol, each `handle(request) -> response`."""
