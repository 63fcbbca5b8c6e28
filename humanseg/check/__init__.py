"""What a data set is, what is wrong with it, and where a trained network believes that a label is wrong."""
