"""Whether one network is better than another: photograph by photograph, with an interval."""
