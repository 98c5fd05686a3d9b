"""Parts that can be added to any network, each of which begins as if it were not there.

A path that begins at zero has exactly one factor that is zero: two would keep each other at zero for ever, because
the gradient of each is a multiple of the other.
"""
