"""How good a boundary is: what it says of texts whose hand-over places are known, counted."""
