"""The two gaps, measured: how far data are from a student, and whether ranking well means generating well.

Importing this package loads neither torch nor transformers nor scikit-learn; using a name from it does.
"""
