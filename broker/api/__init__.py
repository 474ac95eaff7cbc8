"""The HTTP face: submission and status over a socket in the home, or on loopback.

A request is answered from the store alone: it never waits for a site or for Redis. Whoever serves enters
`broker.api.listen.listening`; nothing heavy is imported here, for the client needs the token and the places only.
"""
