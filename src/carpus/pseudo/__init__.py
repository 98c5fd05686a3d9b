"""Pseudo-labels: predictions made into a data set worth training on, and how surely they are.

Nothing is imported here: who only reads or writes decisions (`pseudo.decisions`) loads no network.
"""
