"""The command line: what each command takes, and what a mistake in it is answered with."""
