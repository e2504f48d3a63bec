"""The command line: one module for each noun, which parses, calls services or views, prints and exits."""
