"""Planning: what a run would need on devices that are not here, from its compiled program."""
