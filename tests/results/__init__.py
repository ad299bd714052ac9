"""The result backend: states, waiting, groups and chords."""
