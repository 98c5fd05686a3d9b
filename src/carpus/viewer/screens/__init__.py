"""The pages of the viewer: controls and what they show. They decide nothing; see `facts`, `view` and `reviews`."""
