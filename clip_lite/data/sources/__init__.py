"""Where pictures come from: one source, one file, in the form in which it is published."""
