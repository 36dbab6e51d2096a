"""How work and results are shown: progress, tables, figures."""
