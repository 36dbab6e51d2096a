"""Tables: from a file to a model of one of its columns."""
