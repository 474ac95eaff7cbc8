"""Drills: a workflow is rehearsed under a script of faults, and what that cost is held against bounds.

The way of a drill: `document` (its file, checked) -> `casting` (the sites, places and the workflow that play) ->
`ground` (a virtual clock, simulated sites and carriers, the real store and broker over them) -> `troubles` (what goes
wrong, and when) -> `play` (time goes on until all is quiet) -> `measure` (what it cost, from the sites' own books) ->
`verdict` (bounds, and every invariant: `broker.audit` over the rows, `truth` over the books) -> `telling`.

Virtual are time, the sites, their disks and the network. Real are the document's reader, the engine, the policies, the
store, the watcher, the health keeper and the desk before the movers.
"""
