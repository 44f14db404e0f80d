"""How good a text is: the one seam to whatever judges responses."""
