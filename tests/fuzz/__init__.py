"""Fuzzing: one function for each thing that bytes from outside may become, run by Hypothesis and by libFuzzer."""
