"""From annotated text to a classifier's folder: split, examples, training."""
