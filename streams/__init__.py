"""The Faust worker: one package per stage, in the direction in which data flows."""
