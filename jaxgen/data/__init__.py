"""Sources, tasks, mixtures, packing: batches as a function of the step."""
