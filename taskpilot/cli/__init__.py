"""The command line: one small module a noun; parses, calls operations, prints and exits."""
