"""Where a run is tracked beside its folder: a module a tracker, and what hands values to all of them."""
