"""The release gate: rules, the rows they speak of, and the verdict."""
