"""From the directories of runs to laws, verdicts, predictions and one report."""
