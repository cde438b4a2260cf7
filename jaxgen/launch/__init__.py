"""Starting a command in the processes of one machine, or of a cluster."""
