"""Other ways to the same results, for comparison: written from their formulas, or thin calls of other libraries."""
