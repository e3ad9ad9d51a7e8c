// Verdicts, tested as values.
