"""Cases of policies as data: facts in, the expected outcome, ranking and reasons beside them.

The way of a case: `read` (a YAML file to cases, every fault with its line) -> `values` (plain data to the frozen inputs
that a policy takes, by their own declarations) -> `questions` (which policies can be asked, and by which function) ->
`answers` (what came, held against what was expected) -> `told` (the verdicts, for people and programs).
"""
