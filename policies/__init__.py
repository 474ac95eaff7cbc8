"""Pure judgement: facts and the time in, a Decision with its reasons out."""
