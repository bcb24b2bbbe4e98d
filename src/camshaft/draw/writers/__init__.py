"""One module for each format of a diagram."""
