"""The commands of `jaxgen`, one file each: parsed arguments in, exit code out."""
