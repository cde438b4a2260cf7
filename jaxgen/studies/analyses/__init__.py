"""The analyses that a study's report is made of, each in a file of its own."""
