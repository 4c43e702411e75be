"""Reports: read run directories, print what they say, and write tables, figures and pages beside them."""
