"""The checks, one per file; see `Plugin` in `evaluation.findings` for what each of them promises."""
