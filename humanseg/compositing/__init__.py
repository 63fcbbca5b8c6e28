"""From probabilities to pictures: what is drawn of the people that were found."""
