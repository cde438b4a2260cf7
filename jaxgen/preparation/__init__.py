"""From raw corpora to tokenised shards: filters, scrubbing, duplicates, decontamination."""
