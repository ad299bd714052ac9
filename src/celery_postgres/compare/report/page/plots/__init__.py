"""Plots as SVG, each out of one part of a report."""
