"""Numbered revisions of the schema: forward only, each safe beside the previous release."""
