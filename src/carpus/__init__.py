"""Carpus."""
