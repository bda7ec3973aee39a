"""What an edge device runs: bundles, encoders, banks, matching, evaluation and reports."""
