"""How far data are from a student: likelihood, similarity, markers, texture, and a verdict in words."""
